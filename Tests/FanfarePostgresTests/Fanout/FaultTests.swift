import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

@Suite struct FaultTests {
    @Test(arguments: ["23514", "22003", "P0001"]) func rowsAtFaultAreSetApart(state: String) async throws {
        try await Database.withStore { store, database in
            let (ada, shard) = (try user("ada"), Shard(index: 3))
            let followers = try users(in: shard, 60)
            let bad = [followers[0], followers[20], followers[21], followers[59]]
            try await store.follow(ada, by: followers)
            try await poison(database, bad, state: state)
            let event = try await store.raid(ada)
            let pushed = try await Owner().work(store, limit: 50).users
            let (all, spoiled) = (try await database.keys(followers), try await database.keys(bad))
            #expect(Set(pushed) == Set(all).subtracting(spoiled))
            #expect(pushed.count == 56)
            let status = try await store.eventStatus(event)
            #expect(status.recipients == 56 && status.deadLetters == 4 && status.completedAt != nil)
            let letters = try await store.deadLetters(DeadLetterFilter(event: event))
            #expect(Set(letters.compactMap(\.user)) == Set(bad))
            #expect(
                letters.allSatisfy {
                    $0.kind == "fanout" && $0.sqlState == state && $0.cause == "poison" && $0.shard == shard
                        && $0.state == .dead && $0.attempts == 1
                })
            let payload = String(decoding: letters[0].payload, as: UTF8.self)
            let first = try #require(letters[0].user)
            #expect(payload.contains("\"\(event)\"") && payload.contains("\"\(first)\""))
            #expect(try await store.deadLetters(DeadLetterFilter(kind: "outbox")).isEmpty)
            #expect(try await store.deadLetters(DeadLetterFilter(after: letters[1].id, limit: 1)) == [letters[2]])

            // Replayed while it is still poison: dead again, as a new letter.
            #expect(try await store.replayDeadLetters([letters[0].id]) == 1)
            try await Owner().work(store)
            #expect(try await store.deadLetters(DeadLetterFilter(event: event)).count == 4)
            try await heal(database)
            let dead = try await store.deadLetters(DeadLetterFilter(event: event)).map(\.id)
            #expect(try await store.discardDeadLetters([dead[0]]) == 1)
            #expect(try await store.replayDeadLetters(Array(dead.dropFirst())) == 3)
            try await Owner().work(store)
            try await Owner().work(store)
            #expect(try await database.count("SELECT count(*) FROM inbox") == 59)
            #expect(try await store.eventStatus(event).recipients == 59)
            #expect(try await store.deadLetters(DeadLetterFilter(event: event)).isEmpty)
            let settled = try await store.deadLetters(DeadLetterFilter(event: event, includesSettled: true))
            #expect(settled.count { $0.state == .replayed } == 4 && settled.count { $0.state == .discarded } == 1)
        }
    }

    /// The very first chunks of a large event, in several shards.
    @Test func rowsOfLargeEventsAreSetApart() async throws {
        try await Database.withStore({ $0.directRecipients = 2 }) { store, database in
            let ada = try user("ada")
            let followers = try (0..<4).flatMap { try users(in: Shard(index: $0), 10) }
            try await store.follow(ada, by: followers)
            let bad = [followers[0], followers[13], followers[14], followers[39]]
            try await poison(database, bad)
            let event = try await store.raid(ada)
            try await eventually {
                try await Owner().work(store, limit: 20)
                return try await store.eventStatus(event).completedAt != nil
            }
            let status = try await store.eventStatus(event)
            #expect(status.recipients == 36 && status.deadLetters == 4)
            let letters = try await store.deadLetters(DeadLetterFilter(event: event))
            #expect(Set(letters.compactMap(\.user)) == Set(bad))
            for follower in followers where !bad.contains(follower) {
                #expect(try await store.inboxEvents(follower) == [event])
            }
        }
    }

    @Test func aJobThatFailsForNowIsSetAside() async throws {
        try await Database.withStore({
            $0.jobBackoff = (.seconds(1000), .seconds(1000))
            $0.directRecipients = 2
        }) { store, database in
            let (ada, eve, shard) = (try user("ada"), try user("eve"), Shard(index: 3))
            let followers = try users(in: shard, 10)
            let others = try users(in: shard, 3, prefix: "v")
            try await store.follow(ada, by: followers)
            try await store.follow(eve, by: Array(followers.prefix(2)) + others)
            let first = try await store.raid(ada)
            _ = try await store.relayOutbox(limit: 10)
            let fences = try await Owner().claim(of: store)
            let batch = try await store.workFanout(FanoutOrder(shards: fences, limit: 4))
            #expect(batch.rows == 4)
            _ = try await store.workFanout(FanoutOrder(shards: [:], limit: 1, settling: batch.settlement))
            // The rest of the first event fails for now. The second one goes on.
            try await poison(database, Array(followers.suffix(3)), state: "55P03")
            let second = try await store.raid(eve)
            let during = try await Owner().work(store)
            #expect(during.map(\.event) == [second])
            #expect(try await store.workFanout(FanoutOrder(shards: fences, limit: 4)).rows == 0)
            #expect(try await database.count("SELECT attempts::int8 FROM fanout_jobs WHERE state = 0") == 1)
            // What follows of the same streamer waits for it.
            let third = try await store.raid(ada)
            #expect(try await Owner().work(store).isEmpty)
            try await heal(database)
            try await database.execute("UPDATE fanout_jobs SET run_at = now()")
            let after = try await Owner().work(store)
            #expect(after.filter { $0.event == first }.users.count == 6)
            #expect(after.filter { $0.event == third }.users.count == 10)
            #expect(after.sequences.allSatisfy { $0 > during.sequences[0] })
            #expect(during.sequences[0] > batch.pushes.sequences[0])
            for follower in followers {
                #expect(Set(try await store.inboxEvents(follower)).contains(first))
                #expect(try await store.inboxEvents(follower).count { $0 == first } == 1)
            }
            #expect(try await store.eventStatus(first).completedAt != nil)
        }
    }

    @Test(arguments: ["55P03", "42501"]) func aJobThatNeverWorksBecomesADeadLetter(state: String) async throws {
        let change: (inout PostgresConfiguration) -> Void = {
            $0.jobAttempts = 3
            $0.jobBackoff = (.milliseconds(1), .milliseconds(2))
        }
        try await Database.withStore(change) { store, database in
            let (ada, shard) = (try user("ada"), Shard(index: 3))
            let followers = try users(in: shard, 10)
            try await store.follow(ada, by: followers)
            try await poison(database, [followers[4]], state: state)
            let event = try await store.raid(ada)
            try await eventually {
                try await Owner().work(store, limit: 3)
                return try await !store.deadLetters(DeadLetterFilter(event: event)).isEmpty
            }
            let letter = try await store.deadLetters(DeadLetterFilter(event: event))[0]
            #expect(letter.user == nil && letter.shard == shard && letter.attempts == 3 && letter.sqlState == state)
            #expect(try await Owner().work(store).isEmpty)
            var status = try await store.eventStatus(event)
            #expect(status.completedAt == nil && status.deadLetters == 1 && status.shardsDone == 0)
            // Whoever leaves now was there when the event was accepted.
            try await store.unfollow(user: followers[9], streamer: ada)
            try await heal(database)
            #expect(try await store.replayDeadLetters([letter.id]) == 1)
            try await Owner().work(store, limit: 3)
            for follower in followers { #expect(try await store.inboxEvents(follower) == [event]) }
            status = try await store.eventStatus(event)
            #expect(status.completedAt != nil && status.recipients == 10 && status.deadLetters == 0)
        }
    }

    @Test func whereEveryRowIsAtFaultTheJobIs() async throws {
        try await Database.withStore({ $0.jobRowFailures = 3 }) { store, database in
            let (ada, shard) = (try user("ada"), Shard(index: 3))
            let followers = try users(in: shard, 20)
            try await store.follow(ada, by: followers)
            try await poison(database, followers, state: "23503")
            let event = try await store.raid(ada)
            try await Owner().work(store)
            let letters = try await store.deadLetters(DeadLetterFilter(event: event))
            #expect(letters.count == 4 && letters.count { $0.user == nil } == 1)
            let job = try #require(letters.first { $0.user == nil })
            #expect(try await store.discardDeadLetters([job.id]) == 1)
            let status = try await store.eventStatus(event)
            #expect(status.completedAt != nil && status.shardsDone == 1 && status.recipients == 0)
            #expect(try await database.count("SELECT count(*) FROM fanout_jobs") == 0)
        }
    }

    /// Sessions are killed at random while everything works: nothing is lost, nothing is twice.
    @Test(arguments: [2000, 20]) func sessionsAreKilledInTheMiddle(direct: Int) async throws {
        try await Database.withStore({ $0.directRecipients = direct }) { store, database in
            let ada = try user("ada")
            let followers = try (0..<8).flatMap { try users(in: Shard(index: $0), 25) }
            try await store.follow(ada, by: followers)
            let killing = Task {
                while !Task.isCancelled {
                    _ = try await database.count(
                        """
                        SELECT count(pg_terminate_backend(pid)) FROM (
                            SELECT pid FROM pg_stat_activity
                            WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1
                        ) victims
                        """)
                    // The pace of the killing, which nothing waits for: sometimes twice in one transaction, sometimes
                    // with room for one on a machine that is busy.
                    try await Task.sleep(for: .milliseconds(Int.random(in: 1...90)))
                }
            }
            var events: [EventID] = []
            for round in 0..<4 {
                let request = NotificationRequest(
                    audience: .followers(of: ada), type: "raid", data: [0x31], idempotencyKey: "round \(round)")
                events.append(try await self.insistently { try await store.notify(request) })
                try await eventually {
                    _ = try? await store.relayOutbox(limit: 10)
                    _ = try? await Owner().workShards(store, limit: 20)
                    return (try? await store.eventStatus(events[round]).completedAt) ?? nil != nil
                }
            }
            killing.cancel()
            _ = await killing.result
            try await eventually { store.health.isReachable }
            #expect(try await database.count("SELECT count(*) FROM inbox") == 800)
            for follower in followers { #expect(try await store.inboxEvents(follower) == events) }
            for event in events { #expect(try await store.eventStatus(event).recipients == 200) }
        }
    }

    private func insistently<Value>(_ body: () async throws -> Value) async throws -> Value {
        for _ in 0..<200 {
            do { return try await body() } catch let error as FanfareError where error.isTemporary {
                try await Task.sleep(for: .milliseconds(10))
            }
        }
        throw TimedOut()
    }
}
