import FanfareEngines
import FanfareModel
import FanfarePostgres
import Glibc
import Testing

/// What a go-live costs beside one bare `INSERT … SELECT` of the same rows. Takes its time: only where
/// `FANFARE_TIMING` is set, to the number of followers.
@Suite(.serialized, .enabled(if: getenv("FANFARE_TIMING") != nil)) struct GoLiveTiming {
    private static func setting(_ name: String, _ otherwise: Int) -> Int {
        getenv(name).flatMap { Int(String(cString: $0)) } ?? otherwise
    }
    private let workers = Self.setting("FANFARE_TIMING_WORKERS", 3)
    private let limit = Self.setting("FANFARE_TIMING_LIMIT", 5000)
    private let clock = ContinuousClock()

    @Test func besideABareInsert() async throws {
        let count = Self.setting("FANFARE_TIMING", 100_000)
        try await Database.withStore { store, database in
            let ada = try user("ada")
            try await self.importFollows(database, streamers: [ada], followers: count)
            var ratios: [Double] = []
            for round in 0..<3 {
                let bare = try await self.bare(database, sequence: 1_000_000 + round)
                let event = try await store.raid(ada)
                let live = try await self.clock.measure {
                    while try await store.relayOutbox(limit: 100).hasMore {}
                    try await self.work(store)
                }
                let status = try await store.eventStatus(event)
                #expect(status.recipients == count && status.completedAt != nil)
                ratios.append(bare / live)
                print("\(count) followers: bare \(bare), go-live \(live), ratio of rates \(bare / live)")
            }
            print("median ratio \(ratios.sorted()[1])")
        }
    }

    /// Many streamers with few followers each go live at once.
    @Test func manySmallOnes() async throws {
        try await Database.withStore({ $0.requestConnections = 8 }) { store, database in
            let streamers = try (0..<1000).map { try user("s\($0)") }
            try await self.importFollows(database, streamers: streamers, followers: 50)
            for round in 0..<3 {
                let accepting = try await self.clock.measure {
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for part in 0..<8 {
                            group.addTask {
                                for streamer in streamers[part * 125..<(part + 1) * 125] {
                                    _ = try await store.raid(streamer)
                                }
                            }
                        }
                        try await group.waitForAll()
                    }
                }
                let relaying = try await self.clock.measure { while try await store.relayOutbox(limit: 500).hasMore {} }
                let working = try await self.clock.measure { try await self.work(store) }
                #expect(
                    try await database.count("SELECT count(*) FROM fanouts WHERE completed_at IS NULL") == 0)
                #expect(try await database.count("SELECT count(*) FROM inbox") == 50_000 * (round + 1))
                print("1000 x 50: accept \(accepting), relay \(relaying), work \(working)")
            }
        }
    }

    /// By the index that both use, 10,000 rows in a transaction.
    private func bare(_ database: PostgresConnection, sequence: Int) async throws -> Duration {
        try await self.clock.measure {
            try await database.run { session in
                session.answerTimeout = .seconds(600)
                try session.script("SET statement_timeout = 0")
                var cursor = (shard: Int64(-1), follower: Int64(0))
                while true {
                    let rows = try session.query(
                        """
                        WITH rows AS MATERIALIZED (
                            SELECT shard, follower FROM follows
                            WHERE streamer = (SELECT id FROM users WHERE name = 'ada')
                                AND (shard, follower) > ($1::smallint, $2::bigint)
                            ORDER BY shard, follower LIMIT 10000
                        ), written AS (
                            INSERT INTO inbox (user_id, sequence, event_id) SELECT follower, $3, 0 FROM rows
                        )
                        SELECT shard, follower FROM rows ORDER BY shard DESC, follower DESC LIMIT 1
                        """, [.int2(Int16(cursor.shard)), .int8(cursor.follower), .int8(Int64(sequence))])
                    guard !rows.isEmpty else { return }
                    cursor = (try rows.int64(0, 0), try rows.int64(0, 1))
                }
            }
        }
    }

    /// As the workers of nodes do, with nobody online.
    private func work(_ store: PostgresStore) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for part in 0..<self.workers {
                group.addTask {
                    let shards = Shard.all.filter { $0.index % self.workers == part }
                    var order = FanoutOrder(shards: try await Owner().claim(shards, of: store), limit: self.limit)
                    while true {
                        let batch = try await store.workFanout(order)
                        order.cursor = batch.cursor
                        order.settling = batch.settlement
                        guard batch.hasMore || order.settling != nil else { return }
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    private func importFollows(
        _ database: PostgresConnection, streamers: [UserID], followers: Int
    ) async throws {
        let importer = try FollowImporter(
            try PostgresConfiguration(url: try Database.serverURL(try await database.databaseName())))
        let count = streamers.count * followers
        var at = 0
        let importing = try await self.clock.measure {
            _ = try await importer.run {
                guard at < count else { return nil }
                defer { at += 10_000 }
                return try (at..<min(at + 10_000, count)).map {
                    .init(number: $0, streamer: streamers[$0 / followers], follower: try user("u\($0)"))
                }
            }
        }
        try await database.execute("VACUUM ANALYZE")
        print("imported \(count) follows in \(importing)")
    }
}
