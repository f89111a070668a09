import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

@Suite struct UsersAndEventsTests {
    @Test func followsAreHarmlessToRepeat() async throws {
        try await Database.withStore { store, database in
            let (ada, bob) = (try user("ada"), try user("bob"))
            for _ in 0..<3 { try await store.follow(Follow(user: bob, streamer: ada)) }
            #expect(try await database.count("SELECT count(*) FROM follows") == 1)
            try await store.follow(Follow(user: bob, streamer: ada, notify: .none))
            #expect(try await database.count("SELECT notify::int8 FROM follows") == 2)
            for _ in 0..<3 { try await store.unfollow(user: bob, streamer: ada) }
            #expect(try await database.count("SELECT count(*) FROM follows") == 0)
            try await store.unfollow(user: try user("new"), streamer: try user("newer"))
            await #expect(throws: FanfareErrorCode(107)) {
                try await codes { try await store.follow(Follow(user: ada, streamer: ada)) }
            }
            try await store.ensureUsers([])
            try await store.ensureUsers((0..<2500).compactMap { UserID("u\($0)") } + [ada, ada])
            #expect(try await database.count("SELECT count(*) FROM users") == 2504)
            let wrong = try await database.run { session in
                let rows = try session.query("SELECT name, shard FROM users")
                return try rows.indices.count {
                    try rows.int($0, 1) != Shard(of: UserID(unchecked: rows.string($0, 0))).index
                }
            }
            #expect(wrong == 0)
        }
    }

    @Test func theSameFollowManyTimesAtOnce() async throws {
        try await Database.withStore { store, database in
            let (ada, bob) = (try user("ada"), try user("bob"))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for round in 0..<40 {
                    group.addTask {
                        switch round % 3 {
                        case 0: try await store.follow(Follow(user: bob, streamer: ada, notify: .live))
                        case 1: try await store.follow(Follow(user: bob, streamer: ada))
                        default: try await store.unfollow(user: bob, streamer: ada)
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(try await database.count("SELECT count(*) FROM follows WHERE until IS NULL") <= 1)
        }
    }

    @Test func startAndStop() async throws {
        try await Database.withStore { store, database in
            let ada = try user("ada")
            let start = StreamStart(
                streamer: ada, title: "a \"title\"\\\n\u{1}ü", tags: ["x", "", "{,}"], idempotencyKey: "k")
            let first = try await store.startStream(start)
            #expect(first.stream.isLive && !first.isDuplicate && first.stream.tags == start.tags)
            #expect(first.stream.title == start.title)
            let again = try await store.startStream(start)
            #expect(again.isDuplicate && again.event == first.event && again.stream == first.stream)
            await #expect(throws: FanfareErrorCode(1006)) {
                var other = start
                other.title = "other"
                try await codes { try await store.startStream(other) }
            }
            await #expect(throws: FanfareErrorCode(1001)) {
                try await codes { try await store.startStream(StreamStart(streamer: ada, title: "t")) }
            }
            await #expect(throws: FanfareErrorCode(1001)) {
                try await codes {
                    try await store.startStream(StreamStart(streamer: ada, title: "t", idempotencyKey: "k2"))
                }
            }
            // Keys are the streamer's own.
            #expect(
                try await !store.startStream(StreamStart(streamer: try user("eve"), title: "t", idempotencyKey: "k"))
                    .isDuplicate)
            await #expect(throws: FanfareErrorCode(1002)) {
                try await codes { try await store.stopStream(.idOfStreamer(first.stream.id, try user("eve"))) }
            }
            for reference in [.id("999999"), .id("x"), .id(""), .streamer(try user("nobody"))] as [StreamReference] {
                await #expect(throws: FanfareErrorCode(1002)) {
                    try await codes { try await store.stopStream(reference) }
                }
            }
            let ended = try await store.stopStream(.idOfStreamer(first.stream.id, ada))
            #expect(!ended.isLive && ended.endedAt != nil && ended.id == first.stream.id && ended.tags == start.tags)
            await #expect(throws: FanfareErrorCode(1002)) {
                try await codes { try await store.stopStream(.streamer(ada)) }
            }
            // A key is for good, and its result is the first one.
            #expect(try await store.startStream(start).stream == first.stream)
            let second = try await store.startStream(StreamStart(streamer: ada, title: "t"))
            #expect(second.stream.id != first.stream.id)
            #expect(try await store.stopStream(.streamer(ada)).id == second.stream.id)
            #expect(try await database.count("SELECT count(*) FROM outbox") == 3)
            #expect(
                try await database.count("SELECT count(*) FROM events WHERE data::json ->> 'title' = '\(start.title)'")
                    == 1)
            await #expect(throws: FanfareErrorCode(107)) {
                try await codes { try await store.startStream(StreamStart(streamer: ada, title: "a\u{0}b")) }
            }
        }
    }

    @Test func ofManyStartsOneWins() async throws {
        try await Database.withStore { store, database in
            for round in 0..<5 {
                let streamer = try user("s\(round)")
                let outcomes = try await withThrowingTaskGroup(of: Int.self) { group in
                    for number in 0..<16 {
                        group.addTask {
                            do {
                                // Half of them share a key.
                                let key = number % 2 == 0 ? "same" : nil
                                let start = StreamStart(streamer: streamer, title: "t", idempotencyKey: key)
                                return try await store.startStream(start).isDuplicate ? 2 : 0
                            } catch let error as FanfareError where error.code == 1001 {
                                return 1
                            }
                        }
                    }
                    return try await group.reduce(into: []) { $0.append($1) }
                }
                #expect(outcomes.count { $0 == 0 } == 1, "\(outcomes)")
            }
            #expect(try await database.count("SELECT count(*) FROM streams") == 5)
            #expect(try await database.count("SELECT count(*) FROM events") == 5)
        }
    }

    @Test func notifyUsers() async throws {
        try await Database.withStore { store, database in
            let known = try (0..<5).map { try user("u\($0)") }
            try await store.ensureUsers(known)
            func request(_ users: [UserID], key: String? = nil, data: String = "{}") -> NotificationRequest {
                NotificationRequest(
                    audience: .users(users), type: "mention", data: Array(data.utf8), idempotencyKey: key)
            }
            await #expect {
                try await store.notify(request(known + [try user("ghost"), try user("phantom")]))
            } throws: {
                ($0 as? FanfareError)?.message == "unknown user: ghost"
            }
            await #expect(throws: FanfareErrorCode(1003)) {
                try await codes {
                    try await store.notify(
                        NotificationRequest(audience: .followers(of: try user("ghost")), type: "raid", data: [0x31]))
                }
            }
            #expect(try await database.count("SELECT count(*) FROM events") == 0)
            #expect(try await database.count("SELECT count(*) FROM users") == 5)
            await #expect(throws: FanfareErrorCode(107)) { try await codes { try await store.notify(request([])) } }
            for data in [[0xff], [0x22, 0, 0x22]] as [Bytes] {
                await #expect(throws: FanfareErrorCode(107)) {
                    try await codes {
                        try await store.notify(NotificationRequest(audience: .users(known), type: "raid", data: data))
                    }
                }
            }
            let data = "{\"a\": \"\\u0000 \u{1F984}\" ,\"b\":[1.0]}"
            let first = try await store.notify(request(known + known, key: "k", data: data))
            #expect(try await store.notify(request(known.reversed(), key: "k", data: data)) == first)
            await #expect(throws: FanfareErrorCode(1006)) {
                try await codes { try await store.notify(request(known, key: "k", data: "{ }")) }
            }
            await #expect(throws: FanfareErrorCode(1006)) {
                try await codes { try await store.notify(request([known[0]], key: "k", data: data)) }
            }
            #expect(try await store.eventStatus(first).shardsTotal == 0)
            let pushes = try await Owner().work(store)
            let keys = try await database.keys(known)
            #expect(pushes.users.sorted() == keys.sorted())
            #expect(pushes.allSatisfy { $0.data == Array(data.utf8) && $0.type == "mention" })
            let status = try await store.eventStatus(first)
            #expect(status.recipients == 5 && status.completedAt != nil && status.shardsDone == status.shardsTotal)
            await #expect(throws: FanfareErrorCode(107)) {
                try await codes { try await store.eventStatus(EventID(99)) }
            }
        }
    }

    @Test func sameKeyAtTheSameTime() async throws {
        try await Database.withStore { store, _ in
            let ada = try user("ada")
            try await store.ensureUsers([ada])
            let events = try await withThrowingTaskGroup(of: EventID.self) { group in
                for _ in 0..<16 {
                    group.addTask {
                        try await store.notify(
                            NotificationRequest(
                                audience: .users([ada]), type: "raid", data: [0x31], idempotencyKey: "k"))
                    }
                }
                return try await group.reduce(into: Set<EventID>()) { $0.insert($1) }
            }
            #expect(events.count == 1)
        }
    }
}
