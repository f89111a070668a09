import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

@Suite struct ShardTests {
    @Test func claims() async throws {
        try await Database.withStore { store, _ in
            let shard = Shard(index: 7)
            func claim(_ node: String, _ view: UInt64, _ generation: String = "g1", _ incarnation: String = "i")
                async throws
                -> Fence
            {
                try await store.claimShard(
                    shard, view: ViewNumber(generation: generation, number: view), node: NodeID(node),
                    incarnation: incarnation)
            }
            let first = try await claim("a", 5)
            #expect(try await claim("a", 5) == first)
            #expect(try await claim("a", 6) == first)
            let second = try await claim("b", 6)
            #expect(second.number > first.number)
            #expect(await engineCode { _ = try await claim("a", 5) } == .fenced)
            #expect(try await claim("b", 6) == second)
            let restarted = try await claim("b", 6, "g1", "j")
            #expect(restarted.number > second.number)
            // Redis was wiped: views begin with 1 again, fences do not.
            let wiped = try await claim("b", 1, "g2", "j")
            #expect(wiped.number > restarted.number && wiped.generation == "g2")
            #expect(await engineCode { _ = try await claim("a", 99, "g1") } == .fenced)
            #expect(await engineCode { _ = try await store.workChunk(shard, fence: restarted, limit: 1) } == .fenced)
            #expect(try await store.workChunk(shard, fence: wiped, limit: 1) == nil)
            // Another generation with the same number is not the same fence.
            let forged = Fence(generation: "g1", number: wiped.number)
            #expect(await engineCode { _ = try await store.workChunk(shard, fence: forged, limit: 1) } == .fenced)
        }
    }

    @Test func chunks() async throws {
        try await Database.withStore { store, database in
            let (ada, shard) = (try user("ada"), Shard(index: 3))
            let followers = try users(in: shard, 25)
            try await store.follow(ada, by: followers)
            let event = try await store.raid(ada)
            let relay = try await store.relayOutbox(limit: 10)
            #expect(relay == OutboxRelay(shards: [shard], events: 1, hasMore: false))
            #expect(try await store.shardsWithWork([Shard(index: 2), shard]) == [shard])
            #expect(try await store.shardsWithWork([]) == [])
            let fence = try await Owner().claim(shard, of: store)
            var chunks: [FanoutChunk] = []
            for size in [10, 10, 5] {
                let chunk = try #require(try await store.workChunk(shard, fence: fence, limit: 10))
                // Not pushed: the same one again.
                #expect(try await store.workChunk(shard, fence: fence, limit: 3) == chunk)
                #expect(chunk.users.count == size && chunk.isLast == (size == 5) && chunk.event == event)
                try await store.pushed(chunk, deliveredOnline: 2, fence: fence)
                try await store.pushed(chunk, deliveredOnline: 2, fence: fence)
                chunks.append(chunk)
            }
            #expect(try await store.workChunk(shard, fence: fence, limit: 10) == nil)
            #expect(chunks.flatMap(\.users).sorted() == followers.sorted())
            #expect(Set(chunks.map(\.sequence)).count == 1)
            let status = try await store.eventStatus(event)
            #expect(status.deliveredOnline == 6 && status.recipients == 25 && status.shardsDone == 1)
            #expect(status.completedAt != nil)
            #expect(try await database.count("SELECT count(*) FROM fanout_jobs") == 0)
            #expect(try await store.shardsWithWork([shard]) == [])
            // A multiple of the limit has no empty chunk at the end.
            _ = try await store.raid(ada)
            let again = try await Owner().work(store, limit: 5)
            #expect(again.map(\.users.count) == [5, 5, 5, 5, 5])
            #expect(again.map(\.isLast) == [false, false, false, false, true])
            #expect(again[0].sequence > chunks[0].sequence)
        }
    }

    /// The worker dies between the commit of a chunk and its pushes; another node takes over.
    @Test func takeOver() async throws {
        try await Database.withStore { store, database in
            let (ada, shard) = (try user("ada"), Shard(index: 3))
            let followers = try users(in: shard, 20)
            try await store.follow(ada, by: followers)
            let event = try await store.raid(ada)
            _ = try await store.relayOutbox(limit: 10)
            var owner = Owner()
            var pushed: [UserID] = []
            var last: (chunk: FanoutChunk, fence: Fence)?
            for view in 1...12 as ClosedRange<UInt64> {
                owner = Owner(node: NodeID("node\(view)"), view: view)
                let fence = try await owner.claim(shard, of: store)
                if let last {
                    #expect(
                        await engineCode { _ = try await store.workChunk(shard, fence: last.fence, limit: 3) }
                            == .fenced)
                    #expect(
                        await engineCode {
                            try await store.pushed(last.chunk, deliveredOnline: 1, fence: last.fence)
                        } == .fenced)
                }
                guard let chunk = try await store.workChunk(shard, fence: fence, limit: 3) else { break }
                if let last, view % 2 == 0 { #expect(chunk == last.chunk) }
                // Every second one dies before it has pushed.
                if view % 2 == 0 {
                    try await store.pushed(chunk, deliveredOnline: 1, fence: fence)
                    pushed += chunk.users
                }
                last = (chunk, fence)
            }
            try await Owner(node: NodeID("last"), view: 99).work(store, limit: 3)
            #expect(Set(pushed).count == pushed.count && pushed.count >= 15)
            #expect(try await database.count("SELECT count(*) FROM inbox") == 20)
            for follower in followers { #expect(try await store.inboxEvents(follower) == [event]) }
            #expect(try await store.eventStatus(event).recipients == 20)
        }
    }

    @Test func jobsAreWorkedInOrder() async throws {
        try await Database.withStore { store, _ in
            let (ada, eve, shard) = (try user("ada"), try user("eve"), Shard(index: 9))
            let followers = try users(in: shard, 5)
            try await store.follow(ada, by: followers)
            try await store.follow(eve, by: followers)
            var events: [EventID] = []
            for round in 0..<10 { events.append(try await store.raid(round % 3 == 0 ? eve : ada)) }
            let chunks = try await Owner().work(store, limit: 2)
            var seen: [EventID] = []
            for chunk in chunks where seen.last != chunk.event { seen.append(chunk.event) }
            #expect(seen == events)
            for follower in followers { #expect(try await store.inboxEvents(follower) == events) }
        }
    }
}
