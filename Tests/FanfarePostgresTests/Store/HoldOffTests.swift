import FanfareEngines
import FanfareModel
import FanfarePostgres
import FanfareTesting
import Testing

/// A streamer whose connection flaps is announced once.
@Suite struct HoldOffTests {
    @Test func aStreamThatIsStartedAgainGoesOn() async throws {
        try await Database.withStore { store, database in
            let (ada, bob) = (try user("ada"), try user("bob"))
            try await store.follow(ada, by: [bob])
            let start = StreamStart(streamer: ada, title: "t", tags: ["a"])
            let first = try await store.startStream(start)
            for round in 0..<3 {
                _ = try await store.stopStream(.streamer(ada))
                var again = start
                again.idempotencyKey = round == 1 ? "k" : nil
                let resumed = try await store.startStream(again)
                #expect(resumed == first)
                await #expect(throws: FanfareErrorCode(1001)) {
                    try await codes { _ = try await store.startStream(start) }
                }
            }
            try await Owner().work(store)
            #expect(try await store.inboxEvents(bob) == [first.event])
            // With the key of one of them, the first result.
            var keyed = start
            keyed.idempotencyKey = "k"
            #expect(try await store.startStream(keyed).event == first.event)
            // Another title or other tags: another stream.
            for change in [("u", ["a"]), ("u", [])] {
                _ = try await store.stopStream(.streamer(ada))
                let other = try await store.startStream(
                    StreamStart(streamer: ada, title: change.0, tags: change.1))
                #expect(other.event != first.event && other.stream.id != first.stream.id)
            }
            #expect(try await database.count("SELECT count(*) FROM events") == 3)
        }
    }

    @Test func laterItIsAnotherOne() async throws {
        try await Database.withStore { store, database in
            let ada = try user("ada")
            let start = StreamStart(streamer: ada, title: "t")
            let first = try await store.startStream(start)
            _ = try await store.stopStream(.streamer(ada))
            try await database.execute("UPDATE streams SET started_at = started_at - interval '31 seconds'")
            #expect(try await store.startStream(start).event != first.event)
        }
        try await Database.withStore({ $0.holdOff = .zero }) { store, _ in
            let start = StreamStart(streamer: try user("ada"), title: "t")
            let first = try await store.startStream(start)
            _ = try await store.stopStream(.streamer(start.streamer))
            #expect(try await store.startStream(start).event != first.event)
        }
    }

    enum Moment: CaseIterable { case waiting, relayed, half, broadcast, done }

    /// What was not sent when the stream ended is held; if the stream goes on, everyone has it once in the end, and else
    /// it stays with those who have it.
    @Test(arguments: Moment.allCases, [true, false])
    func whatWasNotSentIsHeld(moment: Moment, goesOn: Bool) async throws {
        try await Database.withStore({
            $0.directRecipients = 3
            if moment == .broadcast { $0.broadcastThreshold = 5 }
        }) { store, database in
            let ada = try user("ada")
            let followers = try users(in: Shard(index: 3), 10) + users(in: Shard(index: 4), 10)
            try await store.follow(ada, by: followers)
            let start = StreamStart(streamer: ada, title: "t")
            let event = try await store.startStream(start).event
            if moment != .waiting { while try await store.relayOutbox(limit: 10).hasMore {} }
            var order = FanoutOrder(shards: try await Owner().claim(of: store), limit: 4)
            switch moment {
            case .half, .broadcast:
                // The broadcast of one shard, for which the other's fence is lost.
                if moment == .broadcast { order.shards[Shard(index: 4)] = nil }
                let batch = try await store.workFanout(order)
                #expect(moment == .broadcast ? batch.broadcasts.count == 1 : batch.rows == 4)
                _ = try await store.workFanout(FanoutOrder(shards: [:], limit: 1, settling: batch.settlement))
            case .done: try await Owner().work(store)
            case .waiting, .relayed: break
            }
            let had = try await self.reached(followers, event, store)
            _ = try await store.stopStream(.streamer(ada))
            let held = try await store.eventStatus(event)
            #expect(held.state == (moment == .done ? .done : .stopped))
            // Other events of the streamer are not held up.
            let raid = try await store.raid(ada)
            #expect(try await Owner().work(store, limit: 4).allSatisfy { $0.event == raid })
            #expect(try await self.reached(followers, event, store) == had)
            for follower in followers { #expect(try await store.inboxEvents(follower).contains(raid)) }
            #expect(try await store.endHeldEvents() == 0)
            guard goesOn else {
                // Nothing is taken back, and nothing is left behind.
                try await database.execute("UPDATE fanouts SET held_until = now() WHERE held_until IS NOT NULL")
                #expect(try await store.endHeldEvents() == (moment == .done ? 0 : 1))
                try await Owner().work(store)
                #expect(try await self.reached(followers, event, store) == had)
                let status = try await store.eventStatus(event)
                #expect(status.state == (moment == .done ? .done : .stopped) && status.completedAt != nil)
                #expect(status.recipients == had.count && status.withdrawn == 0)
                #expect(try await database.count("SELECT count(*) FROM fanout_jobs") == 0)
                #expect(try await database.count("SELECT count(*) FROM outbox") == 0)
                return
            }
            let again = try await store.startStream(start)
            #expect(again.event == event)
            try await Owner().work(store, limit: 4)
            for follower in followers {
                #expect(try await store.inboxEvents(follower).count { $0 == event } == 1)
            }
            let status = try await store.eventStatus(event)
            #expect(status.state == .done && status.recipients == 20)
        }
    }

    /// Starts and stops through several nodes, racing with the fan-out: in the end the stream is live, and everyone has its
    /// one event once.
    @Test func startsAndStopsRace() async throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        try await Database.withStore({
            $0.directRecipients = 3
            $0.holdOff = .seconds(600)
        }) { store, database in
            let ada = try user("ada")
            let followers = try users(in: Shard(index: 3), 40) + users(in: Shard(index: 77), 40)
            try await store.follow(ada, by: followers)
            let start = StreamStart(streamer: ada, title: "t")
            let first = try await store.startStream(start)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for node in 0..<4 {
                    group.addTask {
                        var generator = SeededGenerator(seed: seed &+ UInt64(node))
                        for _ in 0..<12 {
                            do throws(FanfareError) {
                                if Bool.random(using: &generator) {
                                    _ = try await store.stopStream(.streamer(ada))
                                } else {
                                    let started = try await store.startStream(start)
                                    #expect(started.event == first.event)
                                }
                            } catch {
                                #expect(error.code == 1001 || error.code == 1002)
                            }
                        }
                    }
                }
                group.addTask {
                    for _ in 0..<15 {
                        try await Owner().work(store, limit: 4)
                        _ = try await store.endHeldEvents()
                    }
                }
                try await group.waitForAll()
            }
            do throws(FanfareError) {
                _ = try await store.startStream(start)
            } catch {
                #expect(error.code == 1001)
            }
            try await Owner().work(store, limit: 7)
            for follower in followers { #expect(try await store.inboxEvents(follower) == [first.event]) }
            #expect(try await database.count("SELECT count(*) FROM events") == 1)
            #expect(try await store.eventStatus(first.event).state == .done)
        }
    }

    private func reached(
        _ followers: [UserID], _ event: EventID, _ store: PostgresStore
    ) async throws -> Set<UserID> {
        var reached: Set<UserID> = []
        for follower in followers where try await store.inboxEvents(follower).contains(event) {
            reached.insert(follower)
        }
        return reached
    }
}
