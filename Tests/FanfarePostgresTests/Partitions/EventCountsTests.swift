import FanfareEngines
import FanfareModel
import FanfarePostgres
import FanfareTesting
import Testing

/// How many events there were is the sum of what is closed and what is open, at any moment.
@Suite struct EventCountsTests {
    @Test func countsByType() async throws {
        try await Database.withStore { store, _ in
            let (ada, eve) = (try user("ada"), try user("eve"))
            try await store.ensureUsers([ada, eve])
            for _ in 0..<3 { _ = try await store.raid(ada) }
            _ = try await store.startStream(StreamStart(streamer: ada, title: "t", tags: []))
            _ = try await store.raid(eve)
            // Whoever is named has no streamer.
            _ = try await store.notify(
                NotificationRequest(audience: .users([ada]), type: "mention", data: Array("{}".utf8)))
            let counts = [EventCount(type: "raid", count: 3), EventCount(type: "stream.live", count: 1)]
            #expect(try await store.eventCounts(of: ada, type: nil) == counts)
            #expect(try await store.eventCounts(of: ada, type: "raid") == [counts[0]])
            #expect(try await store.eventCounts(of: ada, type: "custom.x") == [])
            #expect(try await store.eventCounts(of: try user("nobody"), type: nil) == [])
        }
    }

    /// Sixteen writers that take their time to commit, or do not, while partitions begin, end and close under them.
    @Test func exactUnderWritersThatCommitLate() async throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        let change = { (configuration: inout PostgresConfiguration) in
            configuration.partitionPeriod = .milliseconds(20)
            configuration.tendsPartitions = false
            // What is late must not be gone.
            configuration.eventRetention = nil
        }
        try await Database.withStore(change) { store, database in
            let streamers = try (0..<3).map { try user("s\($0)") }
            let keys = try await store.ensureUsers(streamers)
            let ids = streamers.compactMap { keys[$0]?.rawValue }
            let url = try Database.serverURL(try await database.databaseName())
            let closed = try await withThrowingTaskGroup(of: Int.self) { group in
                for writer in 0..<16 as Range<UInt64> {
                    group.addTask {
                        let connection = try PostgresConnection(try PostgresConfiguration(url: url))
                        var generator = SeededGenerator(seed: seed &+ writer)
                        for _ in 0..<25 {
                            let streamer = ids[Int.random(in: 0..<3, using: &generator)]
                            let type = ["raid", "custom.a"][Int.random(in: 0..<2, using: &generator)]
                            let delay = Int.random(in: 0..<60, using: &generator)
                            let end = Int.random(in: 0..<5, using: &generator) == 0 ? "ROLLBACK" : "COMMIT"
                            try await connection.execute(
                                """
                                BEGIN;
                                INSERT INTO events (type, streamer, data) VALUES ('\(type)', \(streamer), '{}');
                                SELECT pg_sleep(\(delay) / 1000.0);
                                INSERT INTO events (type, streamer, data) VALUES ('\(type)', \(streamer), '{}');
                                \(end)
                                """)
                        }
                        await connection.disconnect()
                        return 0
                    }
                }
                group.addTask {
                    var closed = 0
                    while closed < 12 {
                        closed += try await store.tendPartitions().closed.count { $0.hasPrefix("events") }
                        try await self.compare(database, streamers)
                    }
                    return closed
                }
                return try await group.reduce(0, +)
            }
            try await self.compare(database, streamers)
            try await eventually {
                _ = try await store.tendPartitions()
                return try await database.count(
                    "SELECT count(*) FROM partitions WHERE log = 'events' AND closed_at IS NOT NULL") > closed + 2
            }
            try await self.compare(database, streamers)
            #expect(try await database.count("SELECT count(DISTINCT partition) FROM event_counts") > 3)
            #expect(try await database.count("SELECT count(*) FROM events") > 500)
        }
    }

    /// What the sums say and what is there, seen at one moment.
    private func compare(_ database: PostgresConnection, _ streamers: [UserID]) async throws {
        try await database.run { session in
            try session.transaction {
                try session.script("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                for streamer in streamers {
                    let counts = try session.eventCounts(of: streamer, type: nil)
                    let plain = try session.query(
                        """
                        SELECT e.type, count(*) FROM events e JOIN users u ON u.id = e.streamer WHERE u.name = $1
                        GROUP BY e.type ORDER BY e.type
                        """, [.text(streamer.rawValue)])
                    var expected: [EventCount] = []
                    for row in plain.indices {
                        expected.append(
                            EventCount(type: try plain.string(row, 0), count: try plain.int64(row, 1)))
                    }
                    #expect(counts == expected)
                }
            }
        }
    }

    /// A transaction that began to write in time keeps its partition open, however long it takes; others go on.
    @Test func aLateCommitIsWaitedFor() async throws {
        try await Database.withStore({
            $0.partitionPeriod = .milliseconds(1)
            $0.tendsPartitions = false
        }) { store, database in
            let ada = try user("ada")
            try await store.ensureUsers([ada])
            let writer = try PostgresConnection(
                try PostgresConfiguration(url: try Database.serverURL(try await database.databaseName())))
            try await writer.execute(
                "BEGIN; INSERT INTO events (type, streamer, data) SELECT 'raid', id, '{}' FROM users")
            for _ in 0..<5 {
                #expect(try await !store.tendPartitions().closed.contains { $0.hasPrefix("events") })
                _ = try await store.raid(ada)
            }
            #expect(try await store.eventCounts(of: ada, type: nil) == [EventCount(type: "raid", count: 5)])
            #expect(try await database.count("SELECT count(DISTINCT tableoid) FROM events") > 2)
            try await writer.execute("COMMIT")
            #expect(try await store.eventCounts(of: ada, type: nil) == [EventCount(type: "raid", count: 6)])
            #expect(try await store.tendPartitions().closed.contains("events_p0"))
            #expect(try await store.eventCounts(of: ada, type: nil) == [EventCount(type: "raid", count: 6)])
            await writer.disconnect()
        }
    }
}
