import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

/// The inbox loses what is old, week by week, and nothing else.
@Suite struct RetentionTests {
    /// A store whose inbox has the weeks from `weeksAgo` on.
    private func withWeeks(
        _ weeksAgo: Int64, days: Int64 = 90,
        _ body: (PostgresStore, PostgresConnection, (Int64) -> Int64) async throws -> Void
    ) async throws {
        try await Database.withStore({ $0.retention = .init(days: days) }) { store, database in
            try await store.ensureUsers([try user("ada")])
            let today = try await database.count("SELECT \(Week.today)")
            let present = Week(day: Int64(today))
            try await database.execute("ALTER TABLE inbox DETACH PARTITION inbox_before; DROP TABLE inbox_before")
            for ago in stride(from: weeksAgo, to: 0, by: -1) {
                let week = Week(present.number - ago)
                try await database.execute(
                    """
                    CREATE TABLE inbox_w\(week.number) PARTITION OF inbox
                    FOR VALUES FROM (\(week.lower)) TO (\(week.upper))
                    """)
            }
            // The first sequence of a week.
            try await body(store, database) { ago in Week(present.number - ago).lower }
        }
    }

    private func partitions(_ database: PostgresConnection) async throws -> Int {
        try await database.count("SELECT count(*) FROM pg_inherits WHERE inhparent = 'inbox'::regclass")
    }

    @Test func nothingToDo() async throws {
        try await Database.withStore { store, database in
            #expect(try await store.retain() == RetentionReport())
            // What was before, four weeks, and the rest.
            #expect(try await self.partitions(database) == 6)
        }
    }

    @Test func oldWeeksAreDropped() async throws {
        try await self.withWeeks(20, days: 28) { store, database, week in
            let ada = try user("ada")
            let event = try await store.notify(
                NotificationRequest(audience: .users([ada]), type: "mention", data: Array("{}".utf8)))
            for ago in [20, 9, 3, 1, 0] {
                try await database.execute(
                    """
                    INSERT INTO inbox (user_id, sequence, event_id)
                    SELECT id, \(week(Int64(ago)) + 5), \(event) FROM users WHERE name = 'ada'
                    """)
            }
            let before = try await store.notifications(InboxQuery(user: ada, limit: 10))
            #expect(before.unread == 5)
            let report = try await store.retain()
            #expect(report.created == [] && !report.isUnfinished)
            #expect(report.dropped.count == 16)
            let page = try await store.notifications(InboxQuery(user: ada, limit: 10))
            #expect(page.entries == Array(before.entries.prefix(3)) && page.unread == 3)
            // Who was away for longer is told so.
            #expect(try await store.inbox(of: ada, after: UInt64(week(9) + 5), limit: 10).isTruncated)
            let tail = try await store.inbox(of: ada, after: UInt64(week(4)), limit: 10)
            #expect(!tail.isTruncated && tail.entries.count == 3 && tail.top == page.entries[0].sequence)
            // Who has nothing any more is where the inbox begins.
            let eve = try user("eve")
            let position = try await store.inboxPosition(of: eve)
            #expect(position == UInt64(week(4)))
            #expect(try await !store.inbox(of: eve, after: position, limit: 10).isTruncated)
            #expect(try await store.retain() == RetentionReport())
            #expect(try await database.count("SELECT count(*) FROM pg_class WHERE relname LIKE 'inbox_w%'") == 2 * 8)
        }
    }

    @Test func broadcastsAndEndedFollowsGoWithTheirWeeks() async throws {
        try await self.withWeeks(10, days: 28) { store, database, week in
            let (ada, eve, host) = (try user("ada"), try user("eve"), try user("host"))
            try await store.follow(host, by: [ada, eve])
            var sequences: [Int64] = []
            for ago in [8, 2] {
                try await database.execute("UPDATE shards SET next_sequence = \(week(Int64(ago)) + 1)")
                _ = try await store.raid(host)
                try await database.broadcastAll()
                if ago == 8 { try await store.unfollow(user: eve, streamer: host) }
                sequences.append(week(Int64(ago)) + 1)
            }
            try await store.unfollow(user: ada, streamer: host)
            #expect(try await store.inboxEvents(eve).count == 1)
            let report = try await store.retain()
            #expect(report.deleted == 3, "two shards' broadcasts and a follow")
            #expect(try await store.notifications(InboxQuery(user: ada, limit: 9)).entries.map(\.sequence) == [UInt64(sequences[1])])
            #expect(try await store.inboxEvents(eve) == [])
            #expect(try await database.count("SELECT count(*) FROM follows") == 1)
        }
    }

    /// A reader who takes his time delays the drop, and not the other readers.
    @Test func aSlowReaderIsWaitedForBriefly() async throws {
        try await self.withWeeks(20, days: 91) { store, database, _ in
            let configuration = try PostgresConfiguration(
                url: try Database.serverURL(try await database.databaseName()))
            let reader = try PostgresConnection(configuration)
            try await reader.execute("BEGIN; SELECT count(*) FROM inbox")
            let report = try await store.retain()
            #expect(report.isUnfinished && report.dropped == [])
            #expect(try await store.notifications(InboxQuery(user: try user("ada"), limit: 1)).entries == [])
            try await reader.execute("COMMIT")
            #expect(try await store.retain().dropped.count == 7)
            await reader.disconnect()
        }
    }

    /// Weeks come and go under readers and writers, and several nodes at it.
    @Test func nobodyIsDisturbed() async throws {
        try await self.withWeeks(20, days: 91) { store, database, _ in
            let ada = try user("ada")
            try await database.execute("DROP TABLE \(try await self.newest(database))")
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<3 {
                    group.addTask { for _ in 0..<5 { try await store.retain() } }
                }
                for _ in 0..<2 {
                    group.addTask {
                        for _ in 0..<30 { _ = try await store.notifications(InboxQuery(user: ada, limit: 10)) }
                    }
                }
                group.addTask {
                    for _ in 0..<20 {
                        _ = try await store.notify(
                            NotificationRequest(audience: .users([ada]), type: "mention", data: Array("{}".utf8)))
                        try await Owner().work(store)
                    }
                }
                try await group.waitForAll()
            }
            try await eventually { try await !store.retain().isUnfinished }
            // Thirteen weeks, the present one and three ahead, and the rest.
            #expect(try await self.partitions(database) == 18)
            #expect(try await store.notifications(InboxQuery(user: ada, limit: 100)).unread == 20)
        }
    }

    private func newest(_ database: PostgresConnection) async throws -> String {
        try await database.run { session in
            try session.query("SELECT max(relname::text) FROM pg_class WHERE relname LIKE 'inbox_w%' AND relkind = 'r'")
                .string(0, 0)
        }
    }

    /// A sequence that no week has: the row has a place, is read like others, and goes when it is old.
    @Test func thereIsAPlaceForEveryRow() async throws {
        try await self.withWeeks(4, days: 28) { store, database, week in
            let ada = try user("ada")
            let event = try await store.notify(
                NotificationRequest(audience: .users([ada]), type: "mention", data: Array("{}".utf8)))
            for sequence in [week(-10), week(30)] {
                try await database.execute(
                    """
                    INSERT INTO inbox (user_id, sequence, event_id)
                    SELECT id, \(sequence), \(event) FROM users WHERE name = 'ada'
                    """)
            }
            #expect(try await database.count("SELECT count(*) FROM inbox_default") == 2)
            #expect(try await store.notifications(InboxQuery(user: ada, limit: 9)).unread == 2)
            try await database.execute("UPDATE retention SET inbox_floor = \(week(20))")
            #expect(try await store.retain().deleted == 1)
            #expect(try await store.notifications(InboxQuery(user: ada, limit: 9)).entries.map(\.sequence) == [UInt64(week(-10))])
        }
    }

    /// What was written before there were partitions stays.
    @Test func oldInboxesBecomeAPartition() async throws {
        let connection = try Database.connection()
        let older = Schema.migrations.filter { $0.number < 4 }
        _ = try await connection.run { try Migrator.migrate($0, older) }
        try await connection.execute("INSERT INTO inbox (user_id, sequence, event_id) SELECT 1, n, n FROM generate_series(1, 100) n")
        let high = Week(5000).lower + 7
        try await connection.execute("INSERT INTO inbox (user_id, sequence, event_id) VALUES (2, \(high), 1)")
        _ = try await connection.run { try Migrator.migrate($0) }
        #expect(try await connection.count("SELECT count(*) FROM inbox") == 101)
        #expect(try await connection.count("SELECT count(*) FROM inbox_before") == 101)
        try await connection.execute("INSERT INTO inbox (user_id, sequence, event_id) VALUES (2, \(Week(5001).lower), 1)")
        #expect(try await connection.count("SELECT count(*) FROM inbox_w5001") == 1)
    }
}
