import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

@Suite struct ShardTests {
    @Test func claims() async throws {
        try await Database.withStore { store, _ in
            let (shard, other) = (Shard(index: 7), Shard(index: 8))
            func claim(_ node: String, _ view: UInt64, _ generation: String = "g1", _ incarnation: String = "i")
                async throws -> Fence?
            {
                try await store.claimShards(
                    [shard], view: ViewNumber(generation: generation, number: view), node: NodeID(node),
                    incarnation: incarnation)[shard]
            }
            func fenced(_ fence: Fence) async throws -> [Shard] {
                try await store.workFanout(FanoutOrder(shards: [shard: fence], limit: 1)).fenced
            }
            #expect(
                try await store.claimShards(
                    [], view: ViewNumber(generation: "g1", number: 5), node: NodeID("a"), incarnation: "i") == [:])
            let first = try #require(try await claim("a", 5))
            #expect(try await claim("a", 5) == first)
            #expect(try await claim("a", 6) == first)
            let second = try #require(try await claim("b", 6))
            #expect(second.number > first.number)
            #expect(try await claim("a", 5) == nil)
            #expect(try await claim("b", 6) == second)
            let restarted = try #require(try await claim("b", 6, "g1", "j"))
            #expect(restarted.number > second.number)
            // Redis was wiped: views begin with 1 again, fences do not.
            let wiped = try #require(try await claim("b", 1, "g2", "j"))
            #expect(wiped.number > restarted.number && wiped.generation == "g2")
            #expect(try await claim("a", 99, "g1") == nil)
            #expect(try await fenced(restarted) == [shard])
            #expect(try await fenced(wiped) == [])
            // Another generation with the same number is not the same fence.
            #expect(try await fenced(Fence(generation: "g1", number: wiped.number)) == [shard])
            // Of many, those that an older view may have are had.
            let newer = try await store.claimShards(
                [shard], view: ViewNumber(generation: "g2", number: 9), node: NodeID("c"), incarnation: "i")
            #expect(newer.count == 1)
            let some = try await store.claimShards(
                [shard, other], view: ViewNumber(generation: "g2", number: 8), node: NodeID("a"), incarnation: "i")
            #expect(Array(some.keys) == [other])
        }
    }

    /// A large event goes chunk by chunk, each with a sequence of its own.
    @Test func chunks() async throws {
        try await Database.withStore({ $0.directRecipients = 5 }) { store, database in
            let (ada, shard) = (try user("ada"), Shard(index: 3))
            let followers = try users(in: shard, 25)
            try await store.follow(ada, by: followers)
            let keys = try await database.keys(followers)
            let event = try await store.raid(ada)
            let relay = try await store.relayOutbox(limit: 10)
            #expect(relay == OutboxRelay(shards: [shard], events: 1, hasMore: false))
            let fences = try await Owner().claim([shard], of: store)
            var order = FanoutOrder(shards: fences, limit: 10)
            var batches: [FanoutBatch] = []
            for size in [10, 10, 5] {
                let batch = try await store.workFanout(order)
                #expect(batch.rows == size && batch.pushes.users.count == size && batch.hasMore)
                #expect(batch.pushes.map(\.event) == [event])
                // Not settled: it is offered again, and nothing else is done.
                let without = FanoutOrder(shards: fences, cursor: order.cursor, limit: 3)
                let idle = try await store.workFanout(without)
                #expect(idle.unsettled == [shard] && idle.rows == 0 && !idle.hasMore)
                let again = try await store.unsettledPushes(fences, to: keys)
                #expect(again.pushes == batch.pushes)
                #expect(again.settlement?.shards == batch.settlement?.shards)
                order.cursor = batch.cursor
                order.settling = batch.settlement
                order.settling?.deliver(batch.pushes, [2])
                batches.append(batch)
            }
            // Said twice, it counts once.
            for _ in 0..<2 { #expect(try await store.workFanout(order).rows == 0) }
            let pushes = batches.flatMap(\.pushes)
            #expect(pushes.users.sorted() == keys.sorted())
            #expect(Set(pushes.sequences).count == 3 && pushes.sequences == pushes.sequences.sorted())
            let status = try await store.eventStatus(event)
            #expect(status.deliveredOnline == 6 && status.recipients == 25 && status.shardsDone == 1)
            #expect(status.completedAt != nil)
            #expect(try await database.count("SELECT count(*) FROM fanout_jobs") == 0)
            #expect(try await database.count("SELECT count(*) FROM fanout_tallies") == 0)
            // A multiple of the limit has no empty push at the end.
            _ = try await store.raid(ada)
            let after = try await Owner().work(store, limit: 5)
            #expect(after.map(\.recipients.count) == [5, 5, 5, 5, 5])
            #expect(after.sequences[0] > pushes.sequences[24])
        }
    }

    /// Small events of many streamers, to users of many shards and to named ones: one transaction.
    @Test func smallEventsTogether() async throws {
        try await Database.withStore { store, database in
            let streamers = try (0..<20).map { try user("s\($0)") }
            let followers = try (0..<30).map { try user("u\($0)") }
            try await store.ensureUsers(followers)
            var expected: [UserID: [EventID]] = [:]
            for (index, streamer) in streamers.enumerated() {
                try await store.follow(streamer, by: Array(followers.dropFirst(index)))
            }
            for (index, streamer) in streamers.enumerated() {
                let event = try await store.raid(streamer)
                for follower in followers.dropFirst(index) { expected[follower, default: []].append(event) }
                let named = try await store.notify(
                    NotificationRequest(audience: .users([followers[0], followers[29]]), type: "mention", data: [0x31]))
                expected[followers[0], default: []].append(named)
                expected[followers[29], default: []].append(named)
            }
            while try await store.relayOutbox(limit: 7).hasMore {}
            let batch = try await store.workFanout(
                FanoutOrder(shards: try await Owner().claim(of: store), limit: 10_000))
            #expect(batch.rows == expected.values.map(\.count).reduce(0, +))
            #expect(batch.pushes.count == 40)
            var seen: [UserKey: UInt64] = [:]
            for recipient in batch.pushes.flatMap(\.recipients) {
                #expect(recipient.sequence > seen[recipient.user] ?? 0)
                seen[recipient.user] = recipient.sequence
            }
            for follower in followers { #expect(try await store.inboxEvents(follower) == expected[follower]) }
            try await Owner().workShards(store)
            #expect(try await database.count("SELECT count(*) FROM fanouts WHERE completed_at IS NULL") == 0)
            // Who was named is kept for a while, and then forgotten.
            #expect(try await database.count("SELECT count(DISTINCT event_id) FROM fanout_named") == 20)
            try await database.execute("UPDATE fanouts SET completed_at = completed_at - interval '2 days'")
            try await eventually {
                _ = try await store.relayOutbox(limit: 1)
                return try await database.count("SELECT count(*) FROM fanout_named") == 0
            }
            // Sequences begin with the day.
            let day = try await database.count(
                "SELECT floor((extract(epoch FROM now()) - 1735689600) / 86400)::bigint")
            #expect(seen.values.allSatisfy { Int($0 >> 32) == day || Int($0 >> 32) == day - 1 })
        }
    }

    /// The worker dies between the commit of a batch and its pushes; another node takes over.
    @Test func takeOver() async throws {
        try await Database.withStore({ $0.directRecipients = 2 }) { store, database in
            let (ada, shard) = (try user("ada"), Shard(index: 3))
            let followers = try users(in: shard, 20)
            try await store.follow(ada, by: followers)
            let keys = try await database.keys(followers)
            let event = try await store.raid(ada)
            _ = try await store.relayOutbox(limit: 10)
            var pushed: [UserKey] = []
            var last: FanoutBatch?
            for view in 1...14 as ClosedRange<UInt64> {
                let fences = try await Owner(node: NodeID("node\(view)"), view: view).claim([shard], of: store)
                var order = FanoutOrder(shards: fences, limit: 3)
                if let last {
                    // The old owner's settlement is void, and so is its fence.
                    let old = FanoutOrder(
                        shards: last.settlement?.shards.mapValues(\.fence) ?? [:], limit: 3, settling: last.settlement)
                    let refused = try await store.workFanout(old)
                    #expect(refused.fenced == [shard] && refused.rows == 0)
                    let idle = try await store.workFanout(order)
                    #expect(idle.unsettled == [shard] && idle.rows == 0)
                    let again = try await store.unsettledPushes(fences, to: keys)
                    #expect(again.pushes == last.pushes)
                    pushed += again.pushes.users
                    order.settling = again.settlement
                }
                let batch = try await store.workFanout(order)
                guard batch.rows > 0 else { break }
                // Dies before it has pushed.
                last = batch
            }
            try await Owner(node: NodeID("last"), view: 99).work(store, limit: 3)
            #expect(Set(pushed).count == pushed.count && pushed.count == 20)
            #expect(try await database.count("SELECT count(*) FROM inbox") == 20)
            for follower in followers { #expect(try await store.inboxEvents(follower) == [event]) }
            let status = try await store.eventStatus(event)
            #expect(status.recipients == 20 && status.completedAt != nil)
        }
    }

    /// Each streamer's events stay in order, whether they are small or large, and each user's sequences grow.
    @Test(arguments: [1, 4, 100]) func eventsOfAStreamerStayInOrder(direct: Int) async throws {
        try await Database.withStore({ $0.directRecipients = direct }) { store, _ in
            let (ada, eve) = (try user("ada"), try user("eve"))
            let followers = try users(in: Shard(index: 9), 5) + users(in: Shard(index: 10), 5)
            try await store.follow(ada, by: followers)
            try await store.follow(eve, by: Array(followers.prefix(3)))
            var events: [UserID: [EventID]] = [:]
            for round in 0..<10 {
                let streamer = round % 3 == 0 ? eve : ada
                events[streamer, default: []].append(try await store.raid(streamer))
            }
            let pushes = try await Owner().work(store, limit: 3)
            var seen: [UserKey: UInt64] = [:]
            for recipient in pushes.flatMap(\.recipients) {
                #expect(recipient.sequence > seen[recipient.user] ?? 0)
                seen[recipient.user] = recipient.sequence
            }
            for (index, follower) in followers.enumerated() {
                let inbox = try await store.inboxEvents(follower)
                #expect(inbox.filter { events[ada]?.contains($0) ?? false } == events[ada])
                if index < 3 { #expect(inbox.filter { events[eve]?.contains($0) ?? false } == events[eve]) }
            }
        }
    }

    /// Two owners that both believe in their shards: one is refused, nothing is twice.
    @Test func ownersInContention() async throws {
        try await Database.withStore({ $0.directRecipients = 8 }) { store, database in
            let ada = try user("ada")
            let followers = try (0..<4).flatMap { try users(in: Shard(index: $0), 8) }
            try await store.follow(ada, by: followers)
            var events: [EventID] = []
            for _ in 0..<6 { events.append(try await store.raid(ada)) }
            while try await store.relayOutbox(limit: 100).hasMore {}
            let keys = try await database.keys(followers)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for node in ["a", "b", "c"] {
                    group.addTask {
                        for view in 1...12 as ClosedRange<UInt64> {
                            let owner = Owner(node: NodeID(node), view: view)
                            try await owner.workShards(store, Array(Shard.all.prefix(4)), limit: 5, online: keys)
                        }
                    }
                }
                try await group.waitForAll()
            }
            try await Owner(node: NodeID("last"), view: 99).work(store, limit: 5)
            for follower in followers { #expect(try await store.inboxEvents(follower) == events) }
            for event in events {
                let status = try await store.eventStatus(event)
                #expect(status.recipients == 32 && status.completedAt != nil)
            }
        }
    }
}
