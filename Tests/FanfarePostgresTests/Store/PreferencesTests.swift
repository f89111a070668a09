import FanfareCore
import FanfareEngines
import FanfareModel
import FanfarePostgres
import Synchronization
import Testing

@Suite struct PreferencesTests {
    @Test func membersChangeByThemselves() async throws {
        try await Database.withStore { store, _ in
            let ada = try user("ada")
            #expect(try await store.preferences(of: ada) == UserPreferences())
            #expect(try await store.pushPolicy(of: ada) == PushPolicy())
            let hours = try #require(QuietHours(from: 1320, to: 420, timeZone: "Europe/Berlin"))
            let until = Timestamp(milliseconds: 4_102_444_800_123)
            var expected = UserPreferences()
            func set(_ change: PreferencesChange) async throws {
                #expect(try await store.setPreferences(change) == expected, "\(change)")
                #expect(try await store.preferences(of: ada) == expected)
            }
            expected.quietHours = hours
            try await set(PreferencesChange(user: ada, quietHours: .set(hours)))
            expected.notify = .live
            try await set(PreferencesChange(user: ada, notify: .live))
            expected.muteUntil = until
            try await set(PreferencesChange(user: ada, muteUntil: .set(until)))
            let muted = try await store.pushPolicy(of: ada)
            #expect(muted.level == .live && muted.mute?.until == until && muted.quietHours == hours)
            #expect(muted.timeZone.offset(at: Timestamp(milliseconds: 0)) != 0 && muted.version == 3)
            // Prolonged, it began when it began.
            expected.muteUntil = Timestamp(milliseconds: until.milliseconds + 1)
            try await set(
                PreferencesChange(user: ada, muteUntil: .set(Timestamp(milliseconds: until.milliseconds + 1))))
            #expect(try await store.pushPolicy(of: ada).mute?.since == muted.mute?.since)
            // One that is over is none to who asks, and still covers what happened in it.
            expected.muteUntil = nil
            try await set(PreferencesChange(user: ada, muteUntil: .set(Timestamp(milliseconds: 1_600_000_000_000))))
            #expect(try await store.pushPolicy(of: ada).mute?.until == Timestamp(milliseconds: 1_600_000_000_000))
            try await set(PreferencesChange(user: ada, muteUntil: .remove))
            #expect(try await store.pushPolicy(of: ada).mute == nil)
            try await set(PreferencesChange(user: ada))
            expected.quietHours = nil
            try await set(PreferencesChange(user: ada, quietHours: .remove))
            #expect(try await store.pushPolicy(of: ada).version == 8)
            #expect(try await store.inboxPositions(of: [ada]) == [ada: InboxPosition(sequence: 0, preferences: 8)])
        }
    }

    @Test(arguments: [
        "Europe/Nowhere", "europe/berlin", "XYZ3", "UTC+1", "posix/Europe/Berlin", "right/UTC", "localtime", "+01:00",
        "",
        "Europe/Berlin'; DROP TABLE users; --",
    ]) func zonesThatDoNotExist(_ name: String) async throws {
        try await Database.withStore { store, database in
            let ada = try user("ada")
            let hours = try #require(QuietHours(from: 0, to: 1, timeZone: name))
            await #expect(throws: FanfareErrorCode(107)) {
                try await codes {
                    try await store.setPreferences(
                        PreferencesChange(user: ada, notify: NotifyPreference.none, quietHours: .set(hours)))
                }
            }
            #expect(try await database.count("SELECT count(*) FROM preferences") == 0)
            #expect(try await database.count("SELECT count(*) FROM users") == 0)
        }
    }

    /// What the rules say is what PostgreSQL says, for thirteen months.
    @Test(arguments: [
        "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Chatham",
        "Africa/Casablanca", "Pacific/Kiritimati", "America/St_Johns",
    ]) func rulesOfTimeZones(_ name: String) async throws {
        try await Database.withStore { store, database in
            let ada = try user("ada")
            let hours = try #require(QuietHours(from: 0, to: 1, timeZone: name))
            _ = try await store.setPreferences(PreferencesChange(user: ada, quietHours: .set(hours)))
            let rules = try await store.pushPolicy(of: ada).timeZone
            let samples = try await database.run { session in
                let rows = try session.query(
                    """
                    SELECT t, extract(epoch FROM (t AT TIME ZONE $1) - (t AT TIME ZONE 'UTC'))::int
                    FROM generate_series(now(), now() + interval '9500 hours', interval '73 minutes') t
                    """, [.text(name)])
                return try rows.indices.map { (try rows.timestamp($0, 0), try rows.int($0, 1)) }
            }
            #expect(samples.allSatisfy { rules.offset(at: $0.0) == $0.1 })
        }
    }

    // MARK: Streamers

    @Test func mutedStreamers() async throws {
        try await Database.withStore { store, database in
            let (ada, bob, eve) = (try user("ada"), try user("bob"), try user("eve"))
            let until = Timestamp(milliseconds: 4_102_444_800_000)
            #expect(try await store.follow(Follow(user: ada, streamer: bob, notify: .live)) == false)
            // A mute alone leaves the level, and follows who was not followed.
            #expect(try await store.follow(Follow(user: ada, streamer: bob, keepsNotify: true, mute: .set(until))))
            #expect(try await store.follow(Follow(user: ada, streamer: eve, keepsNotify: true, mute: .set(until))))
            #expect(try await database.count("SELECT count(*) FROM follows WHERE notify = 1") == 1)
            #expect(try await database.count("SELECT count(*) FROM follows WHERE notify = 0") == 1)
            #expect(
                try await store.preferences(of: ada).mutedStreamers
                    == [.init(streamer: bob, until: until), .init(streamer: eve, until: until)])
            #expect(try await store.pushPolicy(of: ada).mutedStreamers[bob]?.until == until)
            #expect(try await store.follow(Follow(user: ada, streamer: bob, keepsNotify: true, mute: .remove)))
            #expect(try await !store.follow(Follow(user: ada, streamer: bob, keepsNotify: true, mute: .remove)))
            #expect(try await store.unfollow(user: ada, streamer: eve))
            #expect(try await !store.unfollow(user: ada, streamer: eve))
            #expect(try await store.preferences(of: ada) == UserPreferences())

            // At the limit.
            try await database.execute(
                """
                INSERT INTO streamer_mutes (user_id, streamer, since, until)
                SELECT u.id, 1000000 + n, now(), now() + interval '1 hour'
                FROM users u, generate_series(1, 999) n WHERE u.name = 'ada'
                """)
            try await store.follow(Follow(user: ada, streamer: bob, keepsNotify: true, mute: .set(until)))
            try await store.follow(Follow(user: ada, streamer: bob, keepsNotify: true, mute: .set(until)))
            await #expect(throws: FanfareErrorCode(106)) {
                try await codes {
                    try await store.follow(Follow(user: ada, streamer: eve, keepsNotify: true, mute: .set(until)))
                }
            }
            // Nothing of it was done.
            #expect(try await database.count("SELECT count(*) FROM follows WHERE until IS NULL") == 1)
            try await database.execute(
                "UPDATE streamer_mutes SET until = now() - interval '2 days' WHERE streamer = 1000001")
            try await store.follow(Follow(user: ada, streamer: eve, keepsNotify: true, mute: .set(until)))
        }
    }

    @Test(arguments: [0, 1, 3]) func noMoreMutesThanMayBe(limit: Int) async throws {
        try await Database.withStore({ $0.mutedStreamersLimit = limit }) { store, database in
            let (ada, until) = (try user("ada"), Timestamp(milliseconds: 4_102_444_800_000))
            func mute(_ number: Int, for user: UserID) async throws {
                let streamer = UserID(unchecked: "s\(number)")
                try await codes { try await store.follow(Follow(user: user, streamer: streamer, mute: .set(until))) }
            }
            for number in 0..<limit { try await mute(number, for: ada) }
            if limit > 0 { try await mute(0, for: ada) }
            for _ in 0..<2 {
                await #expect(throws: FanfareErrorCode(106)) { try await mute(limit, for: ada) }
            }
            #expect(try await database.count("SELECT count(*) FROM follows") == limit)
            #expect(try await store.preferences(of: ada).mutedStreamers.count == limit)
            // Of each user.
            if limit > 0 {
                try await mute(0, for: user("eve"))
                #expect(try await store.unfollow(user: ada, streamer: user("s0")))
                try await mute(limit, for: ada)
            }
        }
    }

    // MARK: The level

    /// More follows than one step changes.
    @Test func aLevelHoldsForAllAndGivesBack() async throws {
        try await Database.withStore { store, database in
            let ada = try user("ada")
            let streamers = try (0..<450).map { try user("s\($0)") }
            for (number, streamer) in streamers.enumerated() {
                let notify = NotifyPreference.allCases[number % 3]
                try await store.follow(Follow(user: ada, streamer: streamer, notify: notify))
            }
            func counts() async throws -> [Int] {
                var counts: [Int] = []
                for notify in 0..<3 {
                    counts.append(try await database.count("SELECT count(*) FROM follows WHERE notify = \(notify)"))
                }
                return counts
            }
            _ = try await store.setPreferences(PreferencesChange(user: ada, notify: .live))
            #expect(try await counts() == [0, 300, 150])
            _ = try await store.setPreferences(PreferencesChange(user: ada, notify: NotifyPreference.none))
            #expect(try await counts() == [0, 0, 450])
            // Chosen under a narrower level: holds when that is gone.
            try await store.follow(Follow(user: ada, streamer: streamers[2], notify: .all))
            try await store.follow(Follow(user: ada, streamer: try user("new"), notify: .live))
            #expect(try await counts() == [0, 0, 451])
            _ = try await store.setPreferences(PreferencesChange(user: ada, notify: .all))
            #expect(try await counts() == [151, 151, 149])
            #expect(try await database.count("SELECT count(*) FROM follows WHERE chosen IS NOT NULL") == 0)
            #expect(try await database.count("SELECT count(*) FROM preferences WHERE NOT is_applied") == 0)
        }
    }

    @Test func whoeverMaintainsGoesOnWithALevel() async throws {
        try await Database.withStore { store, database in
            let ada = try user("ada")
            try await store.follow(Follow(user: ada, streamer: try user("bob")))
            try await database.execute(
                "INSERT INTO preferences (user_id, notify, is_applied) SELECT id, 2, false FROM users WHERE name = 'ada'"
            )
            try await eventually {
                _ = try await store.relayOutbox(limit: 1)
                return try await database.count("SELECT count(*) FROM preferences WHERE is_applied") == 1
            }
            #expect(try await database.count("SELECT count(*) FROM follows WHERE notify = 2 AND chosen = 0") == 1)
        }
    }

    @Test func importedFollowsHaveTheLevel() async throws {
        try await Database.withStore { store, database in
            let ada = try user("ada")
            _ = try await store.setPreferences(PreferencesChange(user: ada, notify: .live))
            let url = try Database.serverURL(try await database.databaseName())
            let importer = try FollowImporter(try PostgresConfiguration(url: url))
            var batches = [[FollowImporter.Line(number: 1, streamer: try user("bob"), follower: ada)]]
            _ = try await importer.run({ batches.popLast() })
            #expect(try await database.count("SELECT count(*) FROM follows WHERE notify = 1 AND chosen = 0") == 1)
            _ = try await store.setPreferences(PreferencesChange(user: ada, notify: .all))
            #expect(try await database.count("SELECT count(*) FROM follows WHERE notify = 0 AND chosen IS NULL") == 1)
        }
    }

    /// An event is for whom it was meant to be under a level that held while it was accepted: once, or not at all.
    @Test func levelsRaceGoLives() async throws {
        try await Database.withStore { store, database in
            let fan = try user("fan")
            let streamers = try (0..<4).map { try user("s\($0)") }
            try await store.ensureUsers(streamers)
            try await store.follow(streamers[0], by: [fan])
            for streamer in streamers { try await store.follow(streamer, by: [fan]) }
            let log = RaceLog()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for changer in 0..<2 {
                    group.addTask {
                        for turn in 0..<25 {
                            let level = NotifyPreference.allCases[(turn + changer) % 3]
                            let began = log.tick()
                            _ = try await store.setPreferences(PreferencesChange(user: fan, notify: level))
                            log.add(level, began)
                        }
                    }
                }
                for streamer in streamers {
                    group.addTask {
                        for _ in 0..<25 {
                            let began = log.tick()
                            let event = try await store.raid(streamer)
                            log.add(event, began)
                        }
                    }
                }
                group.addTask {
                    for _ in 0..<20 { try await Owner().work(store) }
                }
                try await group.waitForAll()
            }
            try await Owner().work(store)
            let inbox = try await store.inboxEvents(fan)
            #expect(Set(inbox).count == inbox.count)
            for event in log.events {
                let levels = log.levels(during: event)
                let isMeant = inbox.contains(event.what)
                #expect(levels.contains { $0.includes(type: "raid") == isMeant }, "\(event) \(levels)")
            }
            // In the end all is one level, and what was kept for events under way is gone.
            #expect(try await database.count("SELECT count(*) FROM follows WHERE until IS NULL") == 4)
            #expect(try await database.count("SELECT count(DISTINCT notify) FROM follows WHERE until IS NULL") == 1)
            #expect(try await database.count("SELECT count(*) FROM preferences WHERE NOT is_applied") == 0)
        }
    }

    // MARK: What is not worth a push

    @Test func whatIsStale() async throws {
        try await Database.withStore { store, database in
            let (ada, fan) = (try user("ada"), try user("fan"))
            try await store.follow(ada, by: [fan])
            func raid(_ timeToLive: Int?) async throws -> EventID {
                try await store.notify(
                    NotificationRequest(
                        audience: .followers(of: ada), type: "raid", data: Array("{}".utf8), timeToLive: timeToLive))
            }
            let live = try await store.startStream(StreamStart(streamer: ada, title: "t")).event
            let (lasting, short) = (try await raid(nil), try await raid(3600))
            try await Owner().work(store)
            func stale() async throws -> Set<EventID> {
                let tail = try await store.inbox(of: fan, after: 0, limit: 10)
                #expect(tail.entries.count == 3 && tail.entries.allSatisfy { $0.streamer == ada })
                return Set(tail.entries.filter(\.isStale).map(\.event))
            }
            #expect(try await stale() == [])
            let page = try await store.notifications(InboxQuery(user: fan, limit: 10)).entries
            #expect(page.map { $0.expiresAt != nil } == [true, false, false])
            #expect(page.first.flatMap { $0.expiresAt }.map { $0 > page[0].createdAt } == true)
            _ = try await store.stopStream(.streamer(ada))
            #expect(try await stale() == [live])
            try await database.execute("UPDATE events SET expires_at = now() WHERE expires_at IS NOT NULL")
            #expect(try await stale() == [live, short])
            // The user wants to hear of this streamer no more.
            _ = try await store.setPreferences(PreferencesChange(user: fan, notify: .live))
            #expect(try await stale() == [live, short, lasting])
        }
    }
}

private final class RaceLog: Sendable {
    struct Entry<What: Sendable>: Sendable {
        var what: What
        var began: Int
        var ended: Int
    }

    private let state = Mutex((time: 0, levels: [Entry<NotifyPreference>](), events: [Entry<EventID>]()))

    func tick() -> Int {
        self.state.withLock { state in
            state.time += 1
            return state.time
        }
    }

    func add(_ level: NotifyPreference, _ began: Int) {
        let ended = self.tick()
        self.state.withLock { $0.levels.append(Entry(what: level, began: began, ended: ended)) }
    }

    func add(_ event: EventID, _ began: Int) {
        let ended = self.tick()
        self.state.withLock { $0.events.append(Entry(what: event, began: began, ended: ended)) }
    }

    var events: [Entry<EventID>] { self.state.withLock { $0.events } }

    /// Those that may have held: changes under way meanwhile, and those before that no later one had replaced for sure.
    func levels(during event: Entry<EventID>) -> [NotifyPreference] {
        self.state.withLock { state in
            let before = state.levels.filter { $0.began < event.ended }
            let first = Entry(what: NotifyPreference.all, began: 0, ended: 0)
            return (before + [first]).filter { one in
                !before.contains { $0.began > one.ended && $0.ended < event.began }
            }.map(\.what)
        }
    }
}
