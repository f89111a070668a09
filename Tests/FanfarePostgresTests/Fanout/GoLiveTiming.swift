import FanfareEngines
import FanfareModel
import FanfarePostgres
import Glibc
import Testing

/// What a go-live costs beside one bare `INSERT … SELECT` of the same rows. Takes its time: only where
/// `FANFARE_TIMING` is set, to the number of followers.
@Suite struct GoLiveTiming {
    @Test(.enabled(if: getenv("FANFARE_TIMING") != nil)) func besideABareInsert() async throws {
        let count = getenv("FANFARE_TIMING").flatMap { Int(String(cString: $0)) } ?? 100_000
        try await Database.withStore { store, database in
            let ada = try user("ada")
            let importer = try FollowImporter(
                try PostgresConfiguration(url: try Database.serverURL(try await database.databaseName())))
            var at = 0
            let clock = ContinuousClock()
            let importing = try await clock.measure {
                _ = try await importer.run {
                    guard at < count else { return nil }
                    defer { at += 10_000 }
                    return try (at..<min(at + 10_000, count)).map {
                        .init(number: $0, streamer: ada, follower: try user("u\($0)"))
                    }
                }
            }
            try await database.execute("VACUUM ANALYZE")
            print("imported \(count) follows in \(importing)")
            for round in 0..<3 {
                let bare = try await clock.measure {
                    try await database.run { session in
                        session.answerTimeout = .seconds(600)
                        try session.script("SET statement_timeout = 0")
                        for shard in 0..<Shard.count {
                            try session.query(
                                """
                                INSERT INTO inbox (user_id, sequence, event_id)
                                SELECT follower, $2, 0 FROM follows
                                WHERE streamer = (SELECT id FROM users WHERE name = 'ada') AND shard = $1
                                ORDER BY follower ON CONFLICT DO NOTHING
                                """, [.int2(Int16(shard)), .int8(Int64(1_000_000 + round))])
                        }
                    }
                }
                let event = try await store.raid(ada)
                let live = try await clock.measure {
                    while try await store.relayOutbox(limit: 100).hasMore {}
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        let shards = try await store.shardsWithWork(Shard.all)
                        for part in 0..<3 {
                            group.addTask {
                                for shard in shards where shard.index % 3 == part {
                                    let fence = try await Owner().claim(shard, of: store)
                                    while let chunk = try await store.workChunk(shard, fence: fence, limit: 5000) {
                                        try await store.pushed(chunk, deliveredOnline: 0, fence: fence)
                                    }
                                }
                            }
                        }
                        try await group.waitForAll()
                    }
                }
                #expect(try await store.eventStatus(event).recipients == count)
                print("\(count) followers: bare \(bare), go-live \(live), ratio of rates \(bare / live)")
            }
        }
    }
}
