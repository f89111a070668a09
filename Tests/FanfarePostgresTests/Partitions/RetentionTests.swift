import FanfareEngines
import FanfareModel
import FanfarePostgres
import FanfareTesting
import Testing

/// Inboxes lose what is old, all of it at one moment, and nothing else; events go when nothing refers to them.
@Suite struct RetentionTests {
    private static func short(_ configuration: inout PostgresConfiguration) {
        configuration.partitionPeriod = .milliseconds(1)
        configuration.tendsPartitions = false
        // As old as the next turn: what `age` says is all that counts.
        configuration.inboxRetention = .seconds(3600)
        configuration.eventRetention = .seconds(3600)
    }

    /// As if the time had passed.
    private func age(_ database: PostgresConnection, hours: Int = 2) async throws {
        try await database.execute(
            """
            UPDATE partitions SET opened_at = opened_at - interval '\(hours) hours',
                ended_at = ended_at - interval '\(hours) hours'
            """)
    }

    /// Turns until nothing is left to close.
    @discardableResult
    private func tend(_ store: PostgresStore, _ database: PostgresConnection) async throws -> [String] {
        var dropped: [String] = []
        for _ in 0..<3 { dropped += try await store.tendPartitions().dropped }
        return dropped
    }

    private func tables(_ database: PostgresConnection, _ log: String) async throws -> Int {
        try await database.count(
            "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '^\(log)_p[0-9]+$'")
    }

    @Test func entriesAndEventsGoWithTheirTime() async throws {
        try await Database.withStore(Self.short) { store, database in
            let (ada, bob) = (try user("ada"), try user("bob"))
            try await store.follow(ada, by: [bob])
            let old = try await store.raid(ada)
            try await Owner().work(store)
            let position = try await store.inbox(of: bob, after: nil, limit: 1).top
            #expect(try await self.tend(store, database) == [])
            try await self.age(database)
            let recent = try await store.raid(ada)
            try await Owner().work(store)
            let before = try await store.notifications(InboxQuery(user: bob, limit: 10))
            #expect(before.entries.map(\.event) == [recent, old] && before.unread == 2)

            let dropped = try await self.tend(store, database)
            #expect(dropped.contains("inbox_p0") && dropped.contains("events_p0"))
            let page = try await store.notifications(InboxQuery(user: bob, limit: 10))
            #expect(page.entries == [before.entries[0]] && page.unread == 1)
            #expect(try await database.count("SELECT count(*) FROM inbox") == 1)
            #expect(try await database.count("SELECT count(*) FROM events") == 1)
            #expect(try await store.eventStatus(recent).recipients == 1)
            await #expect(throws: FanfareErrorCode(107)) { try await codes { try await store.eventStatus(old) } }
            #expect(try await database.count("SELECT count(*) FROM fanouts") == 1)
            // What was is known.
            #expect(try await store.eventCounts(of: ada, type: nil) == [EventCount(type: "raid", count: 2)])
            #expect(try await database.count("SELECT count(*) FROM event_counts WHERE partition = -1") == 1)
            // Who was away for so long is told so; who has what is left is not.
            #expect(try await store.inbox(of: bob, after: position, limit: 10).isTruncated)
            let tail = try await store.inbox(of: bob, after: page.entries[0].sequence, limit: 10)
            #expect(!tail.isTruncated && tail.entries.isEmpty && tail.top == page.entries[0].sequence)
            // Marks and withdrawals find nothing below.
            #expect(try await store.mark(bob, .read, .sequences([position])) == MarkResult(unread: 1, changed: 0))
            #expect(try await store.mark(bob, .read, .upTo(position)) == MarkResult(unread: 1, changed: 0))
            #expect(try await store.mark(bob, .read, .upTo(.max)) == MarkResult(unread: 0, changed: 1))
        }
    }

    /// An inbox from which all is gone goes on where it was cut off, and a client that recovers from there missed nothing.
    @Test func anEmptyInboxIsWhereItWasCutOff() async throws {
        try await Database.withStore(Self.short) { store, database in
            let (ada, bob) = (try user("ada"), try user("bob"))
            try await store.follow(ada, by: [bob])
            _ = try await store.raid(ada)
            try await Owner().work(store)
            try await self.tend(store, database)
            try await self.age(database)
            try await self.tend(store, database)
            let top = try await store.inbox(of: bob, after: nil, limit: 1).top
            #expect(top > 0)
            #expect(try await store.inboxPositions(of: [bob])[bob]?.sequence ?? 0 == 0)
            let recent = try await store.raid(ada)
            try await Owner().work(store)
            let tail = try await store.inbox(of: bob, after: top, limit: 10)
            #expect(!tail.isTruncated && tail.entries.map(\.event) == [recent])
            #expect(tail.entries[0].sequence > top)
        }
    }

    /// Work that is not done, and dead letters that wait, keep their events; entries keep them, too.
    @Test func eventsStayAsLongAsTheyAreNeeded() async throws {
        let change = { (configuration: inout PostgresConfiguration) in
            Self.short(&configuration)
            configuration.jobBackoff = (.milliseconds(1), .milliseconds(2))
            configuration.directRecipients = 0
        }
        try await Database.withStore(change) { store, database in
            let (ada, bob, eve) = (try user("ada"), try user("bob"), try user("eve"))
            try await store.follow(ada, by: [bob, eve])
            try await poison(database, [eve])
            let event = try await store.raid(ada)
            try await Owner().work(store)
            #expect(try await database.count("SELECT count(*) FROM dead_letters WHERE state = 0") == 1)
            try await self.tend(store, database)
            try await self.age(database)
            // The entry is gone, the letter waits.
            let first = try await self.tend(store, database)
            #expect(first.contains("inbox_p0") && !first.contains { $0.hasPrefix("events") })
            #expect(try await store.notifications(InboxQuery(user: bob, limit: 10)).entries == [])
            #expect(try await store.eventStatus(event).deadLetters == 1)
            try await heal(database)
            let letters = try await store.deadLetters(DeadLetterFilter())
            _ = try await store.replayDeadLetters(letters.map(\.id))
            try await self.age(database)
            #expect(try await !self.tend(store, database).contains("events_p0"))
            try await Owner().work(store)
            // Late, and whole.
            #expect(try await store.inboxEvents(eve) == [event])
            #expect(try await self.tend(store, database) == [])
            #expect(try await store.inboxEvents(eve) == [event])
            try await self.age(database)
            try await self.tend(store, database)
            #expect(try await store.inboxEvents(eve) == [])
            #expect(try await database.count("SELECT count(*) FROM events") == 0)
        }
    }

    @Test func broadcastsAndEndedFollowsGoWithTheInbox() async throws {
        try await Database.withStore(Self.short) { store, database in
            let (ada, eve, host) = (try user("ada"), try user("eve"), try user("host"))
            try await store.follow(host, by: [ada, eve])
            _ = try await store.raid(host)
            try await database.broadcastAll()
            try await store.unfollow(user: eve, streamer: host)
            #expect(try await store.inboxEvents(eve).count == 1)
            try await self.tend(store, database)
            let floor = try await database.count("SELECT inbox_floor FROM instance")
            try await database.execute("UPDATE shards SET next_sequence = \(floor)")
            let recent = try await store.raid(host)
            try await database.broadcastAll()
            try await store.unfollow(user: ada, streamer: host)
            try await database.execute(
                "UPDATE partitions SET ended_at = now() - interval '2 hours' WHERE number = 0")
            try await self.tend(store, database)
            #expect(try await store.inboxEvents(ada) == [recent])
            #expect(try await store.inboxEvents(eve) == [])
            #expect(try await store.notifications(InboxQuery(user: eve, limit: 1)).unread == 0)
            #expect(try await database.count("SELECT count(*) FROM broadcasts") == 1)
            #expect(try await database.count("SELECT count(*) FROM follows") == 1)
        }
    }

    /// A reader who takes his time delays the drop, not the other readers and writers; the drop goes on where it stopped.
    @Test func aSlowReaderDelaysTheDropAlone() async throws {
        try await Database.withStore(Self.short) { store, database in
            let (ada, bob) = (try user("ada"), try user("bob"))
            try await store.follow(ada, by: [bob])
            _ = try await store.raid(ada)
            try await Owner().work(store)
            try await self.tend(store, database)
            try await self.age(database)
            let reader = try PostgresConnection(
                try PostgresConfiguration(url: try Database.serverURL(try await database.databaseName())))
            try await reader.execute("BEGIN; SELECT count(*) FROM inbox; SELECT count(*) FROM events")
            async let turn = store.tendPartitions()
            // It is gone for readers before it is dropped.
            try await eventually { try await store.inboxEvents(bob) == [] }
            let recent = try await store.raid(ada)
            try await Owner().work(store)
            #expect(try await store.inboxEvents(bob) == [recent])
            #expect(try await turn.dropped == [])
            #expect(try await self.tables(database, "inbox") > 2)
            try await reader.execute("COMMIT")
            try await eventually {
                try await store.tendPartitions()
                return try await database.count("SELECT count(*) FROM partitions WHERE retired_at IS NOT NULL") == 0
            }
            #expect(try await database.count("SELECT count(*) FROM pg_class WHERE relname = 'inbox_p0'") == 0)
            #expect(try await store.inboxEvents(bob) == [recent])
            await reader.disconnect()
        }
    }

    /// Partitions come and go under readers, writers and several who look after them; at every moment the unread count is
    /// that of the entries.
    @Test func nobodyIsDisturbed() async throws {
        let change = { (configuration: inout PostgresConfiguration) in
            configuration.partitionPeriod = .milliseconds(50)
            configuration.tendsPartitions = false
            configuration.inboxRetention = .milliseconds(200)
            configuration.eventRetention = .milliseconds(300)
        }
        try await Database.withStore(change) { store, database in
            let (ada, bob) = (try user("ada"), try user("bob"))
            try await store.follow(ada, by: [bob])
            let sent = 60
            let dropped = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<2 {
                    group.addTask {
                        var dropped = 0
                        while try await database.count("SELECT count(*) FROM read_marks WHERE user_id = -1") == 0 {
                            dropped += try await store.tendPartitions().dropped.count
                        }
                        return dropped
                    }
                }
                group.addTask {
                    for number in 0..<sent {
                        _ = try await store.raid(ada)
                        try await Owner().work(store)
                        let page = try await store.notifications(InboxQuery(user: bob, limit: 200))
                        #expect(page.unread == page.entries.count { !$0.isRead })
                        if number % 10 == 9, let entry = page.entries.last {
                            let result = try await store.mark(bob, .read, .sequences([entry.sequence]))
                            #expect(result.changed <= 1)
                        }
                    }
                    try await database.execute("INSERT INTO read_marks (user_id) VALUES (-1)")
                    return 0
                }
                return try await group.reduce(0, +)
            }
            #expect(dropped > 0)
            #expect(try await store.eventCounts(of: ada, type: nil) == [EventCount(type: "raid", count: Int64(sent))])
            try await eventually {
                try await store.tendPartitions()
                return try await store.inboxEvents(bob) == []
            }
            try await eventually {
                try await store.tendPartitions()
                return try await database.count("SELECT count(*) FROM events") == 0
            }
            #expect(try await store.eventCounts(of: ada, type: nil) == [EventCount(type: "raid", count: Int64(sent))])
        }
    }
}
