import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

/// Who follows when the event is accepted gets it, and nobody else.
@Suite struct AudienceTests {
    @Test func asOfAcceptance() async throws {
        try await Database.withStore { store, database in
            let ada = try user("ada")
            let (stays, leaves, comes, back, turns) = (
                try user("stays"), try user("leaves"), try user("comes"), try user("back"), try user("turns")
            )
            try await store.follow(ada, by: [stays, leaves, back, turns])
            let first = try await store.raid(ada)
            // All of this is after the event, and before its fan-out.
            try await store.unfollow(user: leaves, streamer: ada)
            try await store.follow(ada, by: [comes])
            for _ in 0..<3 {
                try await store.unfollow(user: back, streamer: ada)
                try await store.follow(ada, by: [back])
            }
            try await store.follow(Follow(user: turns, streamer: ada, notify: .none))
            let second = try await store.raid(ada)
            try await store.follow(Follow(user: turns, streamer: ada, notify: .all))
            try await Owner().work(store)
            #expect(try await store.inboxEvents(stays) == [first, second])
            #expect(try await store.inboxEvents(leaves) == [first])
            #expect(try await store.inboxEvents(comes) == [second])
            #expect(try await store.inboxEvents(back) == [first, second])
            #expect(try await store.inboxEvents(turns) == [first])
            // What was kept for the events is gone with them.
            #expect(try await database.count("SELECT count(*) FROM follows WHERE until IS NOT NULL") == 0)
            #expect(try await database.count("SELECT count(*) FROM follows") == 4)
            let third = try await store.raid(ada)
            try await Owner().work(store)
            #expect(try await store.inboxEvents(turns) == [first, third])
            #expect(try await store.inboxEvents(leaves) == [first])
        }
    }

    @Test func preferences() async throws {
        try await Database.withStore { store, _ in
            let ada = try user("ada")
            for (name, notify) in [("all", NotifyPreference.all), ("live", .live), ("none", .none)] {
                try await store.follow(Follow(user: try user(name), streamer: ada, notify: notify))
            }
            let live = try await store.startStream(StreamStart(streamer: ada, title: "t")).event
            let raid = try await store.raid(ada)
            try await Owner().work(store)
            #expect(try await store.inboxEvents(try user("all")) == [live, raid])
            #expect(try await store.inboxEvents(try user("live")) == [live])
            #expect(try await store.inboxEvents(try user("none")) == [])
            let status = try await store.eventStatus(live)
            #expect(status.recipients == 2 && status.type == "stream.live")
        }
    }

    @Test func nobodyFollows() async throws {
        try await Database.withStore { store, _ in
            let ada = try user("ada")
            try await store.ensureUsers([ada])
            let event = try await store.raid(ada)
            #expect(try await store.relayOutbox(limit: 10) == OutboxRelay(shards: [], events: 1, hasMore: false))
            let status = try await store.eventStatus(event)
            #expect(status.completedAt != nil && status.shardsTotal == 0 && status.recipients == 0)
        }
    }

    /// Follows and unfollows race with events: each user's inbox is explained by the order in which his calls and the
    /// events were accepted.
    @Test func racing() async throws {
        try await Database.withStore { store, database in
            let ada = try user("ada")
            let followers = try (0..<8).map { try user("u\($0)") }
            try await store.ensureUsers(followers + [ada])
            // Per user: the events surely within his follow, and those surely not.
            let outcomes = try await withThrowingTaskGroup(
                of: (UserID?, must: Set<EventID>, never: Set<EventID>).self
            ) { group in
                let events = EventLog()
                for follower in followers {
                    group.addTask {
                        var must: Set<EventID> = []
                        var never: Set<EventID> = []
                        for _ in 0..<12 {
                            try await store.follow(ada, by: [follower])
                            let since = await events.begun
                            try await Task.sleep(for: .milliseconds(4))
                            let until = await events.accepted
                            try await store.unfollow(user: follower, streamer: ada)
                            must.formUnion(until.subtracting(since))
                            let after = await events.begun
                            try await Task.sleep(for: .milliseconds(3))
                            never.formUnion(await events.accepted.subtracting(after))
                        }
                        return (follower, must, never)
                    }
                }
                group.addTask {
                    for _ in 0..<60 {
                        await events.begin()
                        await events.accept(try await store.raid(ada))
                        try await Owner().work(store)
                    }
                    return (nil, [], [])
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            try await Owner().work(store)
            for (follower, must, never) in outcomes {
                guard let follower else { continue }
                let got = try await store.inboxEvents(follower)
                #expect(Set(got).count == got.count)
                #expect(must.isSubset(of: got))
                #expect(never.isDisjoint(with: got))
            }
            #expect(try await database.count("SELECT count(*) FROM follows WHERE until IS NULL") == 0)
        }
    }

    /// Events by when their acceptance began and ended. `begun` has those that may have been accepted already.
    private actor EventLog {
        private(set) var accepted: Set<EventID> = []
        private var isUnderWay = false
        /// Ids are given in order: the next one may be accepted already.
        var begun: Set<EventID> {
            guard self.isUnderWay else { return self.accepted }
            let next = (self.accepted.max()?.rawValue ?? 0) + 1
            return self.accepted.union([EventID(next)])
        }
        func begin() { self.isUnderWay = true }
        func accept(_ event: EventID) {
            self.accepted.insert(event)
            self.isUnderWay = false
        }
    }
}
