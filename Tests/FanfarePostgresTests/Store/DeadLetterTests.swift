import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

@Suite struct DeadLetterTests {
    private func problem(_ body: () async throws -> Void) async -> FanfareError? {
        do {
            try await body()
            return nil
        } catch { return error as? FanfareError }
    }

    /// Five followers of ada and two of eve; of each event of theirs the rows of `bad` die.
    private func deaths(
        _ store: PostgresStore, _ database: PostgresConnection, bad: [UserID]
    ) async throws -> [EventID] {
        let shard = Shard(index: 3)
        let followers = try users(in: shard, 5)
        try await store.follow(try user("ada"), by: followers)
        try await store.follow(try user("eve"), by: Array(followers.prefix(2)))
        try await poison(database, bad)
        var events: [EventID] = []
        for streamer in ["ada", "eve", "ada"] { events.append(try await store.raid(try user(streamer))) }
        try await Owner().work(store)
        return events
    }

    @Test func lettersSayAllThatOperatorsNeed() async throws {
        try await Database.withStore { store, database in
            let bad = try users(in: Shard(index: 3), 2)
            let events = try await self.deaths(store, database, bad: bad)
            let letters = try await store.deadLetters(DeadLetterFilter())
            #expect(letters.count == 6)
            for letter in letters {
                let streamer = letter.event == events[1] ? "eve" : "ada"
                #expect(letter.endpoint == "user:\(letter.user?.rawValue ?? "-")")
                #expect(letter.streamer?.rawValue == streamer && letter.orderKey == "streamer:\(streamer)")
                #expect(letter.errorClass == .data && letter.sqlState == "23514" && letter.replayOf == nil)
                #expect(letter.firstFailedAt <= letter.lastFailedAt && letter.settledAt == nil)
            }
            // A named user's letter stays in order with that user's alone.
            try await store.ensureUsers(bad)
            _ = try await store.notify(
                NotificationRequest(audience: .users([bad[0]]), type: "raid", data: Array("{}".utf8)))
            try await Owner().work(store)
            let named = try #require(try await store.deadLetters(DeadLetterFilter(after: letters[5].id)).first)
            #expect(named.streamer == nil && named.orderKey == "user:\(bad[0])")
        }
    }

    @Test func filters() async throws {
        try await Database.withStore { store, database in
            let bad = try users(in: Shard(index: 3), 2)
            let events = try await self.deaths(store, database, bad: bad)
            let all = try await store.deadLetters(DeadLetterFilter())
            try await database.execute(
                "UPDATE dead_letters SET last_failed_at = now() - interval '1 hour' WHERE id = \(all[0].id)")
            let cases: [(String, Int, (inout DeadLetterFilter) -> Void)] = [
                ("all", 6, { _ in }), ("event", 2, { $0.event = events[1] }), ("kind", 6, { $0.kind = "fanout" }),
                ("another kind", 0, { $0.kind = "push" }),
                ("endpoint", 3, { $0.endpoint = "user:\(bad[0])" }), ("class", 6, { $0.errorClass = .data }),
                ("another class", 0, { $0.errorClass = .timeout }), ("state", 6, { $0.sqlState = "23514" }),
                ("another state", 0, { $0.sqlState = "23505" }), ("streamer", 4, { $0.streamer = UserID("ada") }),
                ("nobody's", 0, { $0.streamer = UserID("nobody") }), ("user", 3, { $0.user = bad[1] }),
                (
                    "streamer and user", 2,
                    {
                        $0.streamer = UserID("ada"); $0.user = bad[1]
                    }
                ),
                ("old", 1, { $0.minimumAge = .seconds(1800) }), ("young", 5, { $0.maximumAge = .seconds(1800) }),
                ("after", 4, { $0.after = all[1].id }), ("up to", 2, { $0.upTo = all[1].id }),
                ("ids", 2, { $0.ids = [all[2].id, all[4].id, 999_999] }), ("no ids", 0, { $0.ids = [] }),
            ]
            for (name, count, change) in cases {
                var filter = DeadLetterFilter()
                change(&filter)
                let found = try await store.deadLetters(filter)
                #expect(found.count == count, "\(name)")
                let counted = try await store.countDeadLetters(filter)
                #expect(counted == DeadLetterCount(count: count, lastID: found.last?.id ?? 0), "\(name)")
                #expect(
                    try await store.settleDeadLetters(.matching(filter), as: .discard, isTrial: true) == count,
                    "\(name)")
            }
            #expect(try await store.countDeadLetters(DeadLetterFilter(limit: 1)).count == 6)
            #expect(try await store.deadLetters(DeadLetterFilter()).count == 6)
        }
    }

    @Test func whatDoesNotWaitIsRefusedWhole() async throws {
        try await Database.withStore { store, database in
            let bad = try users(in: Shard(index: 3), 2)
            _ = try await self.deaths(store, database, bad: bad)
            let ids = try await store.deadLetters(DeadLetterFilter()).map(\.id)
            try await heal(database)
            #expect(try await store.replayDeadLetters([ids[0]]) == 1)
            #expect(try await store.discardDeadLetters([ids[1]]) == 1)
            for (named, part) in [
                ([ids[2], ids[0]], "\(ids[0]) was replayed already"),
                ([ids[1], ids[2]], "\(ids[1]) was discarded already"),
                ([ids[2], 999_999], "no dead letter 999999"),
            ] {
                for settlement in [DeadLetterSettlement.replay, .discard] {
                    for isTrial in [false, true] {
                        let problem = await self.problem {
                            _ = try await store.settleDeadLetters(.ids(named), as: settlement, isTrial: isTrial)
                        }
                        #expect(problem?.code == 107 && problem?.isTemporary == false)
                        #expect(problem?.message.contains(part) == true, "\(problem?.message ?? "-")")
                    }
                }
            }
            let tooMany = await self.problem { _ = try await store.replayDeadLetters(Array(1...1001)) }
            #expect(tooMany?.code == 106)
            // Nothing was half done.
            #expect(try await store.deadLetters(DeadLetterFilter()).map(\.id) == Array(ids.dropFirst(2)))
            #expect(try await store.replayDeadLetters([ids[2], ids[2]]) == 1)
            #expect(try await store.replayDeadLetters([]) == 0)
        }
    }

    /// In whatever order the letters were written, and whatever is replayed with them.
    @Test func aReplayKeepsTheOrderOfEachKey() async throws {
        try await Database.withStore({ $0.jobRowFailures = 0 }) { store, database in
            let shard = Shard(index: 3)
            let (ada, followers) = (try user("ada"), try users(in: shard, 4))
            try await store.follow(ada, by: followers)
            // Of the first two events a single row dies, of the third one the job.
            try await poison(database, [followers[1]])
            var events: [EventID] = []
            for _ in 0..<3 { events.append(try await store.raid(ada)) }
            try await Owner().work(store)
            let jobs = try await store.deadLetters(DeadLetterFilter())
            #expect(jobs.count == 3 && jobs.allSatisfy { $0.user == nil && $0.endpoint == "shard:3" })
            // The letters' own order says nothing: the first event's becomes the newest.
            try await database.execute(
                """
                UPDATE dead_letters SET event_id = \(events[2]), job_id = (
                    SELECT id FROM fanout_jobs WHERE event_id = \(events[2])) WHERE id = \(jobs[0].id);
                UPDATE dead_letters SET event_id = \(events[0]), job_id = (
                    SELECT id FROM fanout_jobs WHERE event_id = \(events[0])) WHERE id = \(jobs[2].id);
                """)
            try await heal(database)
            // What was accepted meanwhile is through already.
            let later = try await store.raid(ada)
            try await Owner().work(store)
            #expect(
                try await store.settleDeadLetters(.matching(DeadLetterFilter()), as: .replay, isTrial: false) == 3)
            try await Owner().work(store)
            #expect(try await store.inboxEvents(followers[1]) == [later] + events)
            #expect(try await database.count("SELECT count(*) FROM inbox") == 16)
        }
    }

    @Test func aReplayThatFailsAgainGoesOnCounting() async throws {
        try await Database.withStore { store, database in
            let bad = try users(in: Shard(index: 3), 1)
            let events = try await self.deaths(store, database, bad: bad)
            let first = try #require(try await store.deadLetters(DeadLetterFilter(event: events[0])).first)
            #expect(try await store.replayDeadLetters([first.id]) == 1)
            try await Owner().work(store)
            let again = try #require(try await store.deadLetters(DeadLetterFilter(event: events[0])).first)
            #expect(again.id != first.id && again.replayOf == first.id && again.attempts == first.attempts + 1)
            #expect(again.firstFailedAt == first.firstFailedAt && again.lastFailedAt >= first.lastFailedAt)
            try await heal(database)
            #expect(try await store.replayDeadLetters([again.id]) == 1)
            try await Owner().work(store)
            #expect(try await store.inboxEvents(bad[0]) == [events[0]])
            let old = try await store.deadLetters(DeadLetterFilter(event: events[0], includesSettled: true))
            #expect(old.map(\.state) == [.replayed, .replayed] && old.allSatisfy { $0.settledAt != nil })
        }
    }

    /// Two operators at once: each letter is replayed by one of them.
    @Test func replaysAtOnceDoNotDoubleAnything() async throws {
        try await Database.withStore { store, database in
            let bad = try users(in: Shard(index: 3), 2)
            let events = try await self.deaths(store, database, bad: bad)
            try await heal(database)
            let total = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        try await store.settleDeadLetters(.matching(DeadLetterFilter()), as: .replay, isTrial: false)
                    }
                }
                return try await group.reduce(0, +)
            }
            #expect(total == 6)
            try await Owner().work(store)
            for user in bad { #expect(try await store.inboxEvents(user).sorted() == events) }
        }
    }

    /// The generated class is what this program makes of the state.
    @Test func errorClasses() async throws {
        try await Database.withStore { store, database in
            try await store.ensureUsers([])
            var states = [
                "0A000", "26000", "40001", "40002", "40003", "40P01", "25006", "25P03", "55006", "55P03", "57014",
            ]
            states += [
                "57P01", "57P02", "57P03", "57P04", "57P05", "57000", "58030", "53100", "53300", "XX000", "XX001",
            ]
            states += [
                "08006", "22003", "23505", "23514", "44000", "P0001", "42501", "42P01", "25001", "55000", "40999",
            ]
            for state in states {
                try await database.execute(
                    """
                    INSERT INTO dead_letters (kind, payload, cause, sql_state, attempts, first_failed_at, last_failed_at)
                    VALUES ('fanout', '{}', '', '\(state)', 1, now(), now())
                    """)
            }
            let letters = try await store.deadLetters(DeadLetterFilter(limit: 1000))
            #expect(letters.count == states.count)
            for letter in letters {
                let state = letter.sqlState ?? ""
                let expected: DeadLetter.ErrorClass =
                    switch SQLState.reaction(to: state) {
                    case .reconnect: .connection
                    case .retryTransaction: .conflict
                    case .retryLater: .timeout
                    case .backOff: .resources
                    case .findPrimary: .readOnly
                    case .rejectData: .data
                    case .rejectStatement: .statement
                    }
                #expect(letter.errorClass == expected, "\(state)")
            }
        }
    }

    @Test func whatIsKeptIsBounded() async throws {
        try await Database.withStore({
            $0.deadLetterLimit = 10
            $0.deadLetterTime = .seconds(3600)
        }) { store, database in
            try await store.ensureUsers([])
            func insert(_ count: Int, state: Int, ageInHours: Int) async throws {
                try await database.execute(
                    """
                    INSERT INTO dead_letters
                        (kind, payload, cause, attempts, first_failed_at, last_failed_at, state, settled_at)
                    SELECT 'fanout', '{}', '', 1, now(), now(), \(state),
                        CASE WHEN \(state) > 0 THEN now() - \(ageInHours) * interval '1 hour' END
                    FROM generate_series(1, \(count))
                    """)
            }
            func counts() async throws -> [Int] {
                [
                    try await database.count("SELECT count(*) FROM dead_letters WHERE state = 0"),
                    try await database.count("SELECT count(*) FROM dead_letters WHERE state > 0"),
                ]
            }
            // By age: those that wait are never too old.
            try await insert(3, state: 1, ageInHours: 2)
            try await insert(2, state: 1, ageInHours: 0)
            try await insert(4, state: 0, ageInHours: 0)
            await store.boundDeadLetters()
            #expect(try await counts() == [4, 2])
            // Exactly at the limit nothing goes; above it what is settled does.
            try await insert(4, state: 2, ageInHours: 0)
            await store.boundDeadLetters()
            #expect(try await counts() == [4, 6])
            try await insert(1, state: 0, ageInHours: 0)
            await store.boundDeadLetters()
            #expect(try await counts() == [5, 5])
            // Where more wait than are kept, the oldest are given up, and forgotten at the next turn.
            try await insert(8, state: 0, ageInHours: 0)
            let oldest = try await store.deadLetters(DeadLetterFilter()).prefix(3).map(\.id)
            await store.boundDeadLetters()
            #expect(try await counts() == [10, 3])
            let shed = try await store.deadLetters(DeadLetterFilter(includesSettled: true)).filter {
                $0.state == .discarded
            }
            #expect(shed.map(\.id) == oldest)
            await store.boundDeadLetters()
            #expect(try await counts() == [10, 0])
        }
    }
}
