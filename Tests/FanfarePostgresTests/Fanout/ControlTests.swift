import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

/// What operators do with a fan-out that is under way.
@Suite struct ControlTests {
    @Test(arguments: [2000, 3]) func pauseAndResume(direct: Int) async throws {
        try await Database.withStore({ $0.directRecipients = direct }) { store, database in
            let (ada, eve) = (try user("ada"), try user("eve"))
            let followers = try users(in: Shard(index: 3), 10)
            try await store.follow(ada, by: followers)
            try await store.follow(eve, by: followers)
            let event = try await store.raid(ada)
            #expect(try await store.eventStatus(event).state == .waiting)
            for _ in 0..<2 { #expect(try await store.control(event, .pause) == .paused) }
            let other = try await store.raid(eve)
            #expect(try await Set(Owner().work(store).map(\.event)) == [other])
            let status = try await store.eventStatus(event)
            #expect(status.state == .paused && status.recipients == 0 && status.total == 10)
            #expect(status.completedAt == nil && status.remainingSeconds == nil)
            for _ in 0..<2 { #expect(try await store.control(event, .resume) == .running) }
            #expect(try await Owner().work(store, limit: 4).users.count == 10)
            #expect(try await store.eventStatus(event).state == .done)
            #expect(try await store.control(event, .resume) == .done)
            await #expect(throws: FanfareErrorCode(107)) {
                try await codes { try await store.control(event, .pause) }
            }
            let unknown = EventID(event.rawValue + 1000)
            await #expect(throws: FanfareErrorCode(107)) {
                try await codes { try await store.control(unknown, .cancel) }
            }
        }
    }

    /// What is unread is taken back, wherever the event is: not relayed, half written, complete, a broadcast.
    @Test(arguments: ["waiting", "half", "done", "broadcast", "named"]) func cancel(when: String) async throws {
        try await Database.withStore({
            $0.directRecipients = when == "half" ? 3 : 2000
            if when == "broadcast" { $0.broadcastThreshold = 5 }
        }) { store, database in
            let ada = try user("ada")
            let followers = try users(in: Shard(index: 3), 6) + users(in: Shard(index: 4), 6)
            try await store.follow(ada, by: followers)
            let before = try await store.raid(ada)
            try await Owner().work(store)
            let event =
                when == "named"
                ? try await store.notify(
                    NotificationRequest(audience: .users(followers), type: "mention", data: Array("{}".utf8)))
                : try await store.raid(ada)
            var order = FanoutOrder(shards: try await Owner().claim(of: store), limit: 4)
            if when != "waiting" { while try await store.relayOutbox(limit: 10).hasMore {} }
            if when == "half" {
                let batch = try await store.workFanout(order)
                #expect(batch.rows > 0 && batch.rows < 12)
                order.settling = batch.settlement
                _ = try await store.workFanout(FanoutOrder(shards: [:], limit: 1, settling: order.settling))
            } else if when != "waiting" {
                try await Owner().work(store)
            }
            // Two have read it, where they have it.
            var readers: Set<UserID> = []
            for reader in [followers[0], followers[6]] {
                guard let entry = try await store.notifications(InboxQuery(user: reader, limit: 1)).entries.first,
                    entry.event == event
                else { continue }
                _ = try await store.mark(reader, .read, .sequences([entry.sequence]))
                readers.insert(reader)
            }
            for _ in 0..<2 { #expect(try await store.control(event, .cancel) == .cancelled) }
            try await Owner().work(store, limit: 4)
            for follower in followers {
                let wanted = readers.contains(follower) ? [before, event] : [before]
                #expect(try await store.inboxEvents(follower) == wanted)
            }
            let status = try await store.eventStatus(event)
            #expect(status.state == .cancelled && status.completedAt != nil)
            if when == "done" || when == "named" { #expect(status.withdrawn == 10) }
            #expect(try await database.count("SELECT count(*) FROM fanout_jobs") == 0)
            #expect(try await database.count("SELECT count(*) FROM outbox") == 0)
            await #expect(throws: FanfareErrorCode(107)) {
                try await codes { try await store.control(event, .resume) }
            }
        }
    }

    /// Between the moment that a worker has read it in the log and the one that it writes it, or makes jobs of it.
    @Test(arguments: [2000, 3]) func cancelWhileItIsTakenUp(direct: Int) async throws {
        try await Database.withStore({ $0.directRecipients = direct }) { store, database in
            let ada = try user("ada")
            let followers = try users(in: Shard(index: 3), 6) + users(in: Shard(index: 4), 6)
            try await store.follow(ada, by: followers)
            let event = try await store.raid(ada)
            while try await store.relayOutbox(limit: 10).hasMore {}
            let shards = try await Owner().claim(of: store)
            try await database.execute("BEGIN; SELECT FROM shards FOR UPDATE")
            async let batch = store.workFanout(FanoutOrder(shards: shards, limit: 100))
            try await eventually {
                try await database.execute("SELECT pg_stat_clear_snapshot()")
                return try await database.count(
                    """
                    SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'
                    """) == 1
            }
            #expect(try await store.control(event, .cancel) == .cancelled)
            try await database.execute("COMMIT")
            let settling = try await batch.settlement
            _ = try await store.workFanout(FanoutOrder(shards: [:], limit: 1, settling: settling))
            try await Owner().work(store)
            let status = try await store.eventStatus(event)
            #expect(status.state == .cancelled && status.completedAt != nil)
            #expect(try await database.count("SELECT count(*) FROM fanout_jobs") == 0)
            for follower in followers { #expect(try await store.inboxEvents(follower) == []) }
            let next = try await store.raid(ada)
            try await Owner().work(store)
            #expect(try await store.inboxEvents(followers[0]) == [next])
        }
    }

    @Test func prioritiesAndBudgets() async throws {
        try await Database.withStore({
            $0.directRecipients = 2
            $0.fanoutRates = ["raid": 20]
            $0.fanoutPriorities = ["custom.high": 5]
        }) { store, database in
            let (ada, eve, bob) = (try user("ada"), try user("eve"), try user("bob"))
            let followers = try users(in: Shard(index: 3), 30)
            for streamer in [ada, eve, bob] { try await store.follow(streamer, by: followers) }
            func notify(_ streamer: UserID, _ type: String) async throws -> EventID {
                try await store.notify(
                    NotificationRequest(audience: .followers(of: streamer), type: type, data: Array("{}".utf8)))
            }
            let low = try await notify(eve, "custom.low")
            let high = try await notify(bob, "custom.high")
            let first = try await Owner().work(store, limit: 10)
            #expect(first.prefix(3).allSatisfy { $0.event == high } && first.last?.event == low)
            #expect(try await store.eventStatus(high).priority == 5)
            // A second's worth at once, and then no more for a while.
            let paced = try await notify(ada, "raid")
            let some = try await Owner().work(store, limit: 100).users.count
            #expect(some >= 20 && some < 30)
            try await eventually {
                try await Owner().work(store, limit: 100)
                return try await store.eventStatus(paced).completedAt != nil
            }
            #expect(try await database.count("SELECT count(*) FROM inbox") == 90)
        }
    }

    @Test func aBudgetOfTheCluster() async throws {
        try await Database.withStore({ $0.fanoutRate = 40 }) { store, database in
            let ada = try user("ada")
            try await store.follow(ada, by: try users(in: Shard(index: 3), 10))
            for _ in 0..<10 { _ = try await store.raid(ada) }
            let begun = ContinuousClock.now
            try await Owner().work(store, limit: 20)
            #expect(try await database.count("SELECT count(*) FROM inbox") <= 80)
            try await eventually {
                try await Owner().work(store, limit: 20)
                return try await database.count("SELECT count(*) FROM inbox") == 100
            }
            // A second's worth is free, and a last batch may be written ahead.
            #expect(begun.duration(to: .now) > .milliseconds(900))
        }
    }
}
