import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

/// Events for many are written once for each shard; their readers see no difference.
@Suite struct BroadcastTests {
    @Test func onceForEachShard() async throws {
        try await Database.withStore({ $0.broadcastThreshold = 12 }) { store, database in
            let (ada, shards) = (try user("ada"), [Shard(index: 3), Shard(index: 7)])
            let followers = try users(in: shards[0], 6) + users(in: shards[1], 6)
            let late = try users(in: shards[0], 7)[6]
            try await store.follow(ada, by: followers)
            let keys = try await database.keys(followers)
            let event = try await store.raid(ada)
            try await store.follow(ada, by: [late])
            try await store.unfollow(user: followers[1], streamer: ada)
            while try await store.relayOutbox(limit: 10).hasMore {}
            var order = FanoutOrder(shards: try await Owner().claim(of: store), limit: 100)
            let batch = try await store.workFanout(order)
            #expect(batch.rows == 0 && batch.pushes.isEmpty && Set(batch.broadcasts.map(\.shard)) == Set(shards))
            let online = [keys[0], keys[1], keys[8]] + (try await database.keys([late]))
            let pushes = try await store.broadcastPushes(batch.broadcasts, to: online)
            #expect(Set(pushes.users) == [keys[0], keys[1], keys[8]])
            #expect(pushes.allSatisfy { $0.event == event && $0.type == "raid" })
            // Whoever takes the shard over before that was said finds the same.
            let again = try await store.unsettledPushes(order.shards, to: online)
            #expect(again.pushes == pushes)
            order.settling = batch.settlement
            order.settling?.deliver(pushes, pushes.map(\.recipients.count))
            order.cursor = batch.cursor
            let counting = try await store.workFanout(order)
            order.settling = counting.settlement
            _ = try await store.workFanout(order)
            #expect(try await database.count("SELECT count(*) FROM inbox") == 0)
            #expect(try await database.count("SELECT count(*) FROM broadcasts") == 2)
            #expect(try await database.count("SELECT count(*) FROM fanout_jobs") == 0)
            let status = try await store.eventStatus(event)
            #expect(status.recipients == 12 && status.deliveredOnline == 3 && status.total == 12)
            #expect(status.completedAt != nil && status.state == .done)
            for follower in followers { #expect(try await store.inboxEvents(follower) == [event]) }
            #expect(try await store.inboxEvents(late) == [])
            // Eleven are too few.
            let small = try user("small")
            try await store.follow(small, by: Array(followers.dropFirst()))
            _ = try await store.raid(small)
            try await Owner().work(store)
            #expect(try await database.count("SELECT count(*) FROM inbox") == 11)
        }
    }

    /// Rows and broadcasts to the same users, with work cut into small steps: each user's events in each streamer's order.
    @Test func inOrderAmongRows() async throws {
        try await Database.withStore({
            $0.broadcastThreshold = 8
            $0.directRecipients = 2
        }) { store, database in
            let (ada, eve) = (try user("ada"), try user("eve"))
            let followers = try users(in: Shard(index: 9), 5) + users(in: Shard(index: 10), 5)
            try await store.follow(ada, by: followers)
            try await store.follow(eve, by: Array(followers.prefix(5)))
            var events: [UserID: [EventID]] = [:]
            for round in 0..<6 {
                if round == 3 {
                    for each in followers.suffix(4) { try await store.unfollow(user: each, streamer: ada) }
                }
                for streamer in [ada, eve] { events[streamer, default: []].append(try await store.raid(streamer)) }
            }
            let keys = try await database.keys(followers)
            while try await store.relayOutbox(limit: 100).hasMore {}
            var order = FanoutOrder(shards: try await Owner().claim(of: store), limit: 3)
            var seen: [UserKey: UInt64] = [:]
            while true {
                let batch = try await store.workFanout(order)
                var pushes = batch.pushes + (try await store.broadcastPushes(batch.broadcasts, to: keys))
                pushes.sort { $0.recipients[0].sequence < $1.recipients[0].sequence }
                for recipient in pushes.flatMap(\.recipients) {
                    #expect(recipient.sequence > seen[recipient.user] ?? 0)
                    seen[recipient.user] = recipient.sequence
                }
                order.cursor = batch.cursor
                order.settling = batch.settlement
                guard batch.hasMore || order.settling != nil else { break }
            }
            #expect(try await database.count("SELECT count(*) FROM broadcasts") == 6)
            for (index, follower) in followers.enumerated() {
                let inbox = try await store.inboxEvents(follower)
                let wanted = Array((events[ada] ?? []).prefix(index < 6 ? 6 : 3))
                #expect(inbox.filter { events[ada]?.contains($0) ?? false } == wanted)
                if index < 5 { #expect(inbox.filter { events[eve]?.contains($0) ?? false } == events[eve]) }
            }
        }
    }
}
