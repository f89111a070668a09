import FanfareEngines
import FanfareModel
import FanfarePostgres
import FanfareTesting
import Testing

/// COMMIT was done and its answer was lost: every unit is run again and finds what it did.
@Suite struct LostCommitTests {
    @Test(arguments: [2000, 4]) func units(direct: Int) async throws {
        try await withCuttingProxy({
            $0.directRecipients = direct
            $0.holdOff = .zero
        }) { store, database, proxy in
            let (ada, bob, shard) = (try user("ada"), try user("bob"), Shard(index: 3))
            func losing<Value>(_ body: () async throws -> Value) async throws -> Value {
                proxy.cut(after: "COMMIT")
                let value = try await body()
                #expect(!proxy.isArmed)
                return value
            }
            let followers = try users(in: shard, 10)
            try await store.follow(ada, by: followers)
            _ = try await losing { try await store.follow(Follow(user: bob, streamer: ada)) }
            _ = try await losing { try await store.unfollow(user: bob, streamer: ada) }
            #expect(try await database.count("SELECT count(*) FROM follows") == 10)

            let started = try await losing { try await store.startStream(StreamStart(streamer: ada, title: "t")) }
            #expect(!started.isDuplicate)
            let stopped = try await losing { try await store.stopStream(.streamer(ada)) }
            #expect(stopped.id == started.stream.id && !stopped.isLive)
            let raid = try await losing { try await store.raid(ada) }
            #expect(try await database.count("SELECT count(*) FROM events") == 2)
            #expect(try await database.count("SELECT count(*) FROM streams") == 1)

            // The relay that committed found the rows: the one that runs again finds none left.
            _ = try await losing { try await store.relayOutbox(limit: 10) }
            #expect(try await store.relayOutbox(limit: 10).events == 0)
            #expect(try await database.count("SELECT count(*) FROM fanouts WHERE number IS NOT NULL") == 2)
            let fences = try await losing { try await Owner().claim([shard], of: store) }
            let keys = try await database.keys(followers)
            var pushes: [FanoutPush] = []
            var settlement: FanoutSettlement?
            while true {
                let batch = try await losing {
                    // Where nothing is due there is a COMMIT too.
                    try await store.workFanout(FanoutOrder(shards: fences, limit: 4, settling: settlement))
                }
                // What the first one did, the second one finds: committed, and not settled.
                #expect(batch.rows == 0)
                settlement = nil
                guard !batch.unsettled.isEmpty else { break }
                let again = try await losing { try await store.unsettledPushes(fences, to: keys) }
                pushes += again.pushes
                settlement = again.settlement
                settlement?.deliver(again.pushes, again.pushes.map { _ in 1 })
            }
            #expect(pushes.filter { $0.event == raid }.map(\.recipients.count) == (direct > 4 ? [10] : [4, 4, 2]))
            #expect(pushes.users.count == 20)
            for follower in followers { #expect(try await store.inboxEvents(follower) == [started.event, raid]) }
            let status = try await store.eventStatus(raid)
            #expect(status.recipients == 10 && status.deliveredOnline == (direct > 4 ? 1 : 3))
            #expect(status.completedAt != nil)

            let read = try await losing { try await store.mark(followers[0], .read, .upTo(.max)) }
            #expect(read.unread == 0)
            let appended = try await losing { try await store.appendDirect("dm:a:b", [AppendEntry(body: [1])]) }
            #expect(appended[0].position.offset == 1 && !appended[0].isDuplicate)
            #expect(try await store.readDirect("dm:a:b", HistoryFilter(limit: -1)).entries.count == 1)
        }
    }

    /// The call that runs again knows its own work from another one's.
    @Test func deadLetters() async throws {
        try await withCuttingProxy { store, database, proxy in
            try await store.ensureUsers([])
            try await database.execute(
                """
                INSERT INTO dead_letters (kind, payload, cause, attempts, first_failed_at, last_failed_at)
                SELECT 'fanout', '{}', '', 1, now(), now() FROM generate_series(1, 5)
                """)
            let ids = try await store.deadLetters(DeadLetterFilter()).map(\.id)
            proxy.cut(after: "COMMIT")
            #expect(try await store.replayDeadLetters(Array(ids.prefix(2))) == 2)
            #expect(!proxy.isArmed)
            proxy.cut(after: "COMMIT")
            let rest = DeadLetterSelection.matching(DeadLetterFilter(limit: 2))
            #expect(try await store.settleDeadLetters(rest, as: .discard, isTrial: false) == 2)
            #expect(!proxy.isArmed)
            #expect(try await store.deadLetters(DeadLetterFilter()).map(\.id) == [ids[4]])
        }
    }
}
