import FanfareCore
import FanfareEngines
import FanfareModel
import FanfarePostgres
import FanfareTesting
import Testing

/// What users see of their inboxes is the same for rows and for broadcasts, and what a plain model says.
@Suite struct InboxModelTests {
    enum Mode: CaseIterable { case rows, broadcasts, mixed }

    @Test(arguments: Mode.allCases) func inboxesAreWhatTheModelSays(mode: Mode) async throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed), \(mode)")
        try await Database.withStore { store, database in
            var run = try InboxRun(store: store, database: database, mode: mode, seed: seed)
            try await store.ensureUsers(run.fans + run.streamers)
            for step in 0..<150 {
                try await run.step()
                if step % 5 == 4 { try await run.check() }
            }
            try await run.flush()
            try await run.check()
        }
    }

    /// A reader with many follows and few broadcasts, and one whose follows ended long ago.
    @Test func broadcastsAreFoundAmongMany() async throws {
        try await Database.withStore { store, database in
            let shard = Shard(index: 7)
            let reader = try users(in: shard, 1)[0]
            let streamers = try (0..<300).map { try user("s\($0)") }
            try await store.ensureUsers(streamers)
            for streamer in streamers { try await store.follow(Follow(user: reader, streamer: streamer)) }
            var expected: [EventID] = []
            for number in [3, 250, 3, 99] {
                expected.append(try await store.raid(streamers[number]))
                try await database.broadcastAll()
            }
            for streamer in streamers { try await store.unfollow(user: reader, streamer: streamer) }
            _ = try await store.raid(streamers[3])
            try await database.broadcastAll()
            try await store.follow(Follow(user: reader, streamer: streamers[3]))
            #expect(try await store.inboxEvents(reader) == expected)
            #expect(try await store.notifications(InboxQuery(user: reader, limit: 1)).unread == 4)
        }
    }
}

/// Random changes, done to the store and to the model alike.
private struct InboxRun {
    struct Entry {
        var number: Int
        var isRead = false
        var isArchived = false
    }

    let store: PostgresStore
    let database: PostgresConnection
    let mode: InboxModelTests.Mode
    let fans: [UserID]
    let streamers: [UserID]
    private var generator: SeededGenerator
    /// What each fan wants to hear of each streamer.
    private var follows: [UserID: [UserID: NotifyPreference]] = [:]
    /// And of any.
    private var levels: [UserID: NotifyPreference] = [:]
    /// Ascending.
    private var inboxes: [UserID: [Entry]] = [:]
    /// Accepted, and not yet in inboxes.
    private var pending: [(number: Int, for: [UserID])] = []
    private var isBroadcasting: Bool
    private var accepted = 0
    /// As seen first: they stay.
    private var sequences: [UserID: [Int: UInt64]] = [:]

    init(store: PostgresStore, database: PostgresConnection, mode: InboxModelTests.Mode, seed: UInt64) throws {
        self.store = store
        self.database = database
        self.mode = mode
        // Two of one shard, so that what one does with a broadcast is seen to leave the other alone.
        self.fans = try users(in: Shard(index: 3), 2, prefix: "fan") + users(in: Shard(index: 200), 2, prefix: "fan")
        self.streamers = try (0..<3).map { try user("streamer\($0)") }
        self.generator = SeededGenerator(seed: seed)
        self.isBroadcasting = mode == .broadcasts
    }

    mutating func step() async throws {
        let fan = self.fans[self.below(self.fans.count)]
        let streamer = self.streamers[self.below(self.streamers.count)]
        switch self.below(11) {
        case 0, 1:
            let notify = NotifyPreference.allCases[self.below(4) % 3]
            try await self.store.follow(Follow(user: fan, streamer: streamer, notify: notify))
            self.follows[fan, default: [:]][streamer] = notify
        case 2:
            try await self.store.unfollow(user: fan, streamer: streamer)
            self.follows[fan, default: [:]][streamer] = nil
        case 3, 4, 5: try await self.goLive(streamer)
        case 6: try await self.flush()
        case 7: try await self.mention(fan)
        case 8:
            let level = NotifyPreference.allCases[self.below(4) % 3]
            _ = try await self.store.setPreferences(PreferencesChange(user: fan, notify: level))
            self.levels[fan] = level
        default: try await self.mark(fan)
        }
    }

    private mutating func goLive(_ streamer: UserID) async throws {
        if self.mode == .mixed, self.below(3) == 0 {
            try await self.flush()
            self.isBroadcasting.toggle()
        }
        let isLive = self.below(2) == 0
        let audience = self.fans.filter { fan in
            guard let notify = self.follows[fan]?[streamer] else { return false }
            return max(notify, self.levels[fan] ?? .all).includes(type: isLive ? "stream.live" : "raid")
        }
        self.pending.append((self.accepted, audience))
        try await self.accept(.followers(of: streamer), isLive ? "stream.live" : "raid")
    }

    /// Named users have rows, whatever the mode.
    private mutating func mention(_ fan: UserID) async throws {
        try await self.flush()
        self.pending.append((self.accepted, [fan]))
        try await self.accept(.users([fan]), "mention")
        let wasBroadcasting = self.isBroadcasting
        self.isBroadcasting = false
        try await self.flush()
        self.isBroadcasting = wasBroadcasting
    }

    private mutating func accept(_ audience: NotificationRequest.Audience, _ type: String) async throws {
        let data = Array("{\"n\":\(self.accepted)}".utf8)
        _ = try await self.store.notify(NotificationRequest(audience: audience, type: type, data: data))
        self.accepted += 1
    }

    /// Brings what was accepted into the inboxes.
    mutating func flush() async throws {
        if self.isBroadcasting {
            try await self.database.broadcastAll()
        } else {
            try await Owner().work(self.store)
        }
        for event in self.pending {
            for fan in event.for { self.inboxes[fan, default: []].append(Entry(number: event.number)) }
        }
        self.pending = []
    }

    private mutating func mark(_ fan: UserID) async throws {
        let all = try await self.all(fan)
        let mark: InboxMark = self.below(3) == 0 ? .archived : .read
        let which: InboxSelection
        let chosen: Set<Int>
        if self.below(3) == 0 {
            let at = all.isEmpty ? 0 : self.below(all.count)
            chosen = Set(all[at...].map { self.number($0) })
            // Between two sequences, too; and far above all.
            which = .upTo(
                at == 0
                    ? .max : all[at].sequence + UInt64(self.below(2)) * (all[at - 1].sequence - all[at].sequence - 1))
        } else {
            let some = all.filter { _ in self.below(4) == 0 }
            chosen = Set(some.map { self.number($0) })
            which = .sequences(some.map(\.sequence) + [UInt64(self.below(1_000_000)) + 1 << 50])
        }
        var changed = 0
        for index in (self.inboxes[fan] ?? []).indices where chosen.contains(self.inboxes[fan]![index].number) {
            var entry = self.inboxes[fan]![index]
            if mark == .read ? !entry.isRead : !entry.isArchived { changed += 1 }
            entry.isRead = true
            if mark == .archived { entry.isArchived = true }
            self.inboxes[fan]![index] = entry
        }
        let result = try await self.store.mark(fan, mark, which)
        #expect(result == MarkResult(unread: self.unread(fan), changed: changed), "\(fan) \(mark) \(which)")
    }

    // MARK: Comparison

    mutating func check() async throws {
        for fan in self.fans {
            let model = (self.inboxes[fan] ?? []).reversed()
            let all = try await self.all(fan)
            try #require(self.seen(all) == model.map { self.seen($0) }, "\(fan)")
            for entry in all {
                let first = self.sequences[fan]?[self.number(entry)]
                #expect(first == nil || first == entry.sequence)
                self.sequences[fan, default: [:]][self.number(entry)] = entry.sequence
            }
            let top = all.first?.sequence ?? 0
            let position = try await self.store.inbox(of: fan, after: nil, limit: 1)
            #expect(position.top == top && position.entries.isEmpty)
            #expect(position.policy.level == self.levels[fan] ?? .all)
            #expect(try await self.store.inboxPositions(of: self.fans)[fan]?.sequence ?? 0 == top)
            // What lies before one of them, as who is pushed that one asks; others' bounds are nothing to it.
            let place = self.below(all.count + 1)
            var bounds = Dictionary(uniqueKeysWithValues: self.fans.map { ($0, UInt64(self.below(100))) })
            bounds[fan] = place == all.count ? 1 : all[place].sequence
            let before = try await self.store.inboxPositions(of: self.fans, below: bounds)[fan]?.sequence ?? 0
            #expect(before == all.dropFirst(place + 1).first?.sequence ?? 0, "\(fan) below \(bounds[fan] ?? 0)")
            for (isUnread, isArchived) in [(false, false), (true, false), (false, true), (true, true)] {
                let expected = model.filter { $0.isArchived == isArchived && !(isUnread && $0.isRead) }
                var pages: [InboxEntry] = []
                var isLast = false
                while !isLast {
                    let limit = 1 + self.below(6)
                    let page = try await self.store.notifications(
                        InboxQuery(
                            user: fan, limit: limit, before: pages.last?.sequence, unreadOnly: isUnread,
                            isArchived: isArchived))
                    #expect(page.unread == self.unread(fan))
                    pages += page.entries
                    isLast = page.entries.count < limit
                }
                #expect(self.seen(pages) == expected.map { self.seen($0) }, "\(fan) \(isUnread) \(isArchived)")
            }
            let at = self.below(all.count + 1)
            let since = at == all.count ? 0 : all[at].sequence
            let tail = try await self.store.inbox(of: fan, after: since, limit: 4)
            #expect(tail.entries == all[0..<at].suffix(4).reversed())
            #expect(tail.top == top && tail.isTruncated == (at > 4))
        }
    }

    /// Newest first, archived or not.
    private func all(_ fan: UserID) async throws -> [InboxEntry] {
        try await self.store.inbox(of: fan, after: 0, limit: 10_000).entries.reversed()
    }

    private func unread(_ fan: UserID) -> Int { (self.inboxes[fan] ?? []).count { !$0.isRead } }

    private func number(_ entry: InboxEntry) -> Int {
        Int(String(decoding: entry.data, as: UTF8.self).filter(\.isNumber)) ?? -1
    }

    private func seen(_ entries: [InboxEntry]) -> [String] {
        entries.map { self.seen(Entry(number: self.number($0), isRead: $0.isRead, isArchived: $0.isArchived)) }
    }

    private func seen(_ entry: Entry) -> String {
        "\(entry.number)\(entry.isRead ? "r" : "")\(entry.isArchived ? "a" : "")"
    }

    private mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self.generator) }
}

extension PostgresConnection {
    /// Brings all that waits in the outbox to followers as broadcasts.
    func broadcastAll() throws {
        try self.run { session in
            try session.transaction {
                let waiting = try session.query("SELECT event_id FROM outbox ORDER BY event_id FOR UPDATE")
                for row in waiting.indices {
                    let event: [PostgresValue] = [.int8(try waiting.int64(row, 0))]
                    try session.query(
                        """
                        WITH meant AS (
                            SELECT DISTINCT f.shard, o.streamer, o.reach FROM outbox o JOIN follows f
                                ON f.streamer = o.streamer AND f.since < o.event_id
                                AND (f.until IS NULL OR f.until >= o.event_id) AND f.notify <= o.reach
                            WHERE o.event_id = $1
                        ), numbered AS (
                            UPDATE shards s SET next_sequence = s.next_sequence + 1
                            FROM meant m WHERE s.shard = m.shard
                            RETURNING s.shard, s.next_sequence - 1 AS sequence, m.streamer, m.reach
                        )
                        INSERT INTO broadcasts (shard, sequence, event_id, streamer, reach)
                        SELECT shard, sequence, $1, streamer, reach FROM numbered
                        """, event)
                    try session.query("DELETE FROM outbox WHERE event_id = $1", event)
                    try session.query("UPDATE fanouts SET completed_at = now() WHERE event_id = $1", event)
                }
            }
        }
    }
}
