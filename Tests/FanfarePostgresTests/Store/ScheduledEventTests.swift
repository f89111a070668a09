import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

@Suite struct ScheduledEventTests {
    private static let past = Timestamp(milliseconds: 1_000)
    private static let future = Timestamp(milliseconds: 250_000_000_000_000)

    private func request(_ audience: NotificationRequest.Audience, key: String? = nil, ttl: Int? = nil)
        -> NotificationRequest
    {
        NotificationRequest(
            audience: audience, type: "raid", data: Array("{}".utf8), idempotencyKey: key, timeToLive: ttl)
    }

    private func soon(_ database: PostgresConnection, _ interval: String) async throws -> Timestamp {
        try await database.run { try $0.query("SELECT now() + $1::text::interval", [.text(interval)]).timestamp(0, 0) }
    }

    @Test func forWhoFollowsThen() async throws {
        try await Database.withStore { store, database in
            let (ada, early, late) = (try user("ada"), try user("early"), try user("late"))
            try await store.follow(ada, by: [early])
            let hour = try await self.soon(database, "1 hour")
            let id = try await store.schedule(self.request(.followers(of: ada), key: "k", ttl: 60), at: hour)
            #expect(try await store.schedule(self.request(.followers(of: ada), key: "k", ttl: 60), at: hour) == id)
            await #expect(throws: FanfareErrorCode(1006)) {
                try await codes { try await store.schedule(self.request(.followers(of: ada), key: "k"), at: hour) }
            }
            try await store.unfollow(user: early, streamer: ada)
            try await store.follow(ada, by: [late])
            let round = try await store.sendScheduled(limit: 10)
            #expect(round.sent == 0 && round.next.map { $0 > .seconds(3000) && $0 <= .seconds(3600) } == true)
            try await database.execute("UPDATE scheduled_events SET run_at = now()")
            #expect(try await store.sendScheduled(limit: 10) == ScheduledRound(sent: 1, next: nil))
            #expect(try await store.sendScheduled(limit: 10).sent == 0)
            try await Owner().work(store)
            let event = try #require(try await store.inboxEvents(late).first)
            #expect(try await store.inboxEvents(early) == [])
            #expect(try await store.scheduledEvents(ScheduledEventFilter()) == [])
            let sent = try await store.scheduledEvents(ScheduledEventFilter(includesSettled: true))
            #expect(sent.map(\.event) == [event] && sent[0].state == .sent && sent[0].dueAt == hour)
            #expect(try await database.count("SELECT count(*) FROM events WHERE expires_at > now()") == 1)
            // The key is still good.
            #expect(try await store.schedule(self.request(.followers(of: ada), key: "k", ttl: 60), at: hour) == id)
        }
    }

    @Test func namedUsersAndThePast() async throws {
        try await Database.withStore { store, database in
            let users = try (0..<3).map { try user("u\($0)") }
            await #expect(throws: FanfareErrorCode(1003)) {
                try await codes { try await store.schedule(self.request(.users(users)), at: Self.past) }
            }
            try await store.ensureUsers(users)
            _ = try await store.schedule(self.request(.users(users)), at: Self.past)
            #expect(try await store.scheduledEvents(ScheduledEventFilter()).map(\.users) == [3])
            #expect(try await store.sendScheduled(limit: 10).sent == 1)
            try await Owner().work(store)
            for user in users { #expect(try await store.inboxEvents(user).count == 1) }
            await #expect(throws: FanfareErrorCode(107)) {
                try await codes { try await store.schedule(self.request(.users(users)), at: Self.future) }
            }
            #expect(try await database.count("SELECT count(*) FROM scheduled_events WHERE state = 0") == 0)
        }
    }

    @Test func cancelled() async throws {
        try await Database.withStore { store, _ in
            let ada = try user("ada")
            try await store.ensureUsers([ada])
            let id = try await store.schedule(self.request(.users([ada])), at: Self.past)
            try await store.cancelScheduled(id)
            try await store.cancelScheduled(id)
            #expect(try await store.sendScheduled(limit: 10) == ScheduledRound(sent: 0, next: nil))
            let sent = try await store.schedule(self.request(.users([ada])), at: Self.past)
            #expect(try await store.sendScheduled(limit: 10).sent == 1)
            for id in [sent, 99, -1] {
                await #expect(throws: FanfareErrorCode(107)) { try await codes { try await store.cancelScheduled(id) } }
            }
            let listed = try await store.scheduledEvents(ScheduledEventFilter(includesSettled: true, limit: 1))
            #expect(listed.map(\.state) == [.cancelled])
            let rest = try await store.scheduledEvents(ScheduledEventFilter(includesSettled: true, after: listed[0].id))
            #expect(rest.map(\.state) == [.sent])
        }
    }

    /// Whoever sends, and whatever is cancelled meanwhile: each once, or cancelled.
    @Test func manySend() async throws {
        try await Database.withStore { store, database in
            let streamers = try (0..<3).map { try user("s\($0)") }
            let fan = try user("fan")
            for streamer in streamers { try await store.follow(streamer, by: [fan]) }
            var ids: [Int64] = []
            for number in 0..<60 {
                ids.append(try await store.schedule(self.request(.followers(of: streamers[number % 3])), at: Self.past))
            }
            let all = ids
            let cancelled = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        while try await store.sendScheduled(limit: 5).next != nil {}
                        return 0
                    }
                }
                group.addTask {
                    var count = 0
                    for id in all.reversed() where id % 2 == 0 {
                        if (try? await store.cancelScheduled(id)) != nil { count += 1 }
                    }
                    return count
                }
                return try await group.reduce(0, +)
            }
            try await Owner().work(store)
            #expect(try await store.inboxEvents(fan).count == 60 - cancelled)
            #expect(try await database.count("SELECT count(*) FROM events") == 60 - cancelled)
            #expect(try await database.count("SELECT count(DISTINCT event_id) FROM scheduled_events") == 60 - cancelled)
        }
    }

    /// One that cannot be sent does not hold up the others.
    @Test func oneThatFails() async throws {
        try await Database.withStore { store, database in
            let ada = try user("ada")
            try await store.ensureUsers([ada])
            let bad = try await store.schedule(self.request(.users([ada])), at: Self.past)
            _ = try await store.schedule(self.request(.users([ada])), at: Self.past)
            try await database.execute(
                "INSERT INTO idempotency_keys VALUES ('scheduled', '\(bad)', '', 1, NULL, now())")
            let round = try await store.sendScheduled(limit: 10)
            #expect(round.sent == 1 && round.next.map { $0 > .seconds(30) } == true)
            let waiting = try await store.scheduledEvents(ScheduledEventFilter())
            #expect(waiting.map(\.id) == [bad] && waiting[0].attempts == 1)
            try await database.execute(
                "DELETE FROM idempotency_keys WHERE scope = 'scheduled'; UPDATE scheduled_events SET run_at = now()")
            #expect(try await store.sendScheduled(limit: 10).sent == 1)
        }
    }

    @Test(arguments: [1, 3]) func noMoreThanMayWait(limit: Int) async throws {
        try await Database.withStore({ $0.scheduledEventsLimit = limit }) { store, database in
            let ada = try user("ada")
            try await store.ensureUsers([ada])
            let hour = try await self.soon(database, "1 hour")
            var ids: [Int64] = []
            for _ in 1..<limit { ids.append(try await store.schedule(self.request(.users([ada])), at: hour)) }
            ids.append(try await store.schedule(self.request(.users([ada]), key: "last"), at: Self.past))
            await #expect(throws: FanfareErrorCode(106)) {
                try await codes { try await store.schedule(self.request(.users([ada]), key: "new"), at: Self.past) }
            }
            // Who repeats a call gets its result.
            let last = try await store.schedule(self.request(.users([ada]), key: "last"), at: Self.past)
            #expect(last == ids.last)
            #expect(try await store.sendScheduled(limit: 10).sent == 1)
            try await store.cancelScheduled(store.schedule(self.request(.users([ada]), key: "new"), at: hour))
            _ = try await store.schedule(self.request(.users([ada])), at: hour)
            #expect(try await store.scheduledEvents(ScheduledEventFilter()).count == limit)
        }
    }
}
