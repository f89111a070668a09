import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

@Suite struct InboxTests {
    private func notify(_ store: PostgresStore, _ users: [UserID], _ data: String = "{}") async throws -> EventID {
        try await store.notify(NotificationRequest(audience: .users(users), type: "mention", data: Array(data.utf8)))
    }

    @Test func pages() async throws {
        try await Database.withStore { store, _ in
            let ada = try user("ada")
            try await store.ensureUsers([ada])
            #expect(
                try await store.notifications(InboxQuery(user: ada, limit: 10)) == InboxPage(entries: [], unread: 0))
            #expect(try await store.notifications(InboxQuery(user: try user("x"), limit: 10)).entries.isEmpty)
            #expect(try await store.inboxPosition(of: try user("x")) == 0)
            var events: [EventID] = []
            for number in 0..<25 { events.append(try await self.notify(store, [ada], "{\"n\":\(number)}")) }
            try await Owner().work(store)
            let all = try await store.notifications(InboxQuery(user: ada, limit: 200))
            #expect(all.entries.map(\.event) == events.reversed())
            #expect(all.unread == 25)
            #expect(all.entries.map(\.sequence) == all.entries.map(\.sequence).sorted(by: >))
            #expect(String(decoding: all.entries[0].data, as: UTF8.self) == "{\"n\":24}")
            let page = try await store.notifications(InboxQuery(user: ada, limit: 10))
            let next = try await store.notifications(InboxQuery(user: ada, limit: 10, before: page.entries[9].sequence))
            #expect(page.entries + next.entries == Array(all.entries.prefix(20)))
            #expect(try await store.inboxPosition(of: ada) == all.entries[0].sequence)
            let tail = try await store.inbox(of: ada, after: all.entries[20].sequence, limit: 10)
            #expect(tail.entries == all.entries[10..<20].reversed())
            #expect(tail.isTruncated && tail.top == all.entries[0].sequence)
            let rest = try await store.inbox(of: ada, after: all.entries[10].sequence, limit: 10)
            #expect(rest.entries == all.entries[0..<10].reversed() && !rest.isTruncated)
            let none = try await store.inbox(of: ada, after: tail.top, limit: 10)
            #expect(none == InboxTail(entries: [], top: tail.top, isTruncated: false))
        }
    }

    @Test func reading() async throws {
        try await Database.withStore { store, _ in
            let ada = try user("ada")
            try await store.ensureUsers([ada])
            for _ in 0..<10 { _ = try await self.notify(store, [ada]) }
            try await Owner().work(store)
            let sequences = try await store.notifications(InboxQuery(user: ada, limit: 10)).entries.map(\.sequence)
            func unread() async throws -> [UInt64] {
                try await store.notifications(InboxQuery(user: ada, limit: 200, unreadOnly: true)).entries.map(
                    \.sequence)
            }
            #expect(
                try await store.markRead(user: ada, .sequences([sequences[2], sequences[2], 999]))
                    == .init(unread: 9, changed: 1))
            #expect(try await store.markRead(user: ada, .sequences([sequences[2]])) == .init(unread: 9, changed: 0))
            #expect(try await store.markRead(user: ada, .sequences([])) == .init(unread: 9, changed: 0))
            #expect(try await unread() == sequences.filter { $0 != sequences[2] })
            #expect(try await store.markRead(user: ada, .upTo(sequences[5])) == .init(unread: 4, changed: 5))
            #expect(try await store.markRead(user: ada, .upTo(sequences[7])) == .init(unread: 4, changed: 0))
            #expect(try await unread() == [0, 1, 3, 4].map { sequences[$0] })
            #expect(
                try await store.notifications(InboxQuery(user: ada, limit: 10)).entries.map(\.isRead)
                    == [false, false, true, false, false, true, true, true, true, true])
            // Far above the top: what comes later is unread all the same.
            #expect(try await store.markRead(user: ada, .upTo(.max)) == .init(unread: 0, changed: 4))
            _ = try await self.notify(store, [ada])
            try await Owner().work(store)
            #expect(try await store.notifications(InboxQuery(user: ada, limit: 1)).unread == 1)
            #expect(try await store.markRead(user: try user("nobody"), .upTo(5)) == .init(unread: 0, changed: 0))
            #expect(try await store.markRead(user: ada, .upTo(0)) == .init(unread: 1, changed: 0))
        }
    }

    /// Several devices read while notifications come in: every answer's count is right, and so is the sum of changes.
    @Test func theCountEqualsARecount() async throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        try await Database.withStore { store, database in
            let users = try (0..<3).map { try user("u\($0)") }
            try await store.ensureUsers(users)
            let changed = try await withThrowingTaskGroup(of: Int.self) { group in
                group.addTask {
                    for _ in 0..<30 {
                        _ = try await self.notify(store, users)
                        try await Owner().work(store)
                    }
                    return 0
                }
                for device in 0..<6 {
                    group.addTask {
                        var generator = Seeded(state: seed &+ UInt64(device))
                        var changed = 0
                        for _ in 0..<40 {
                            let user = users[device % 3]
                            let page = try await store.notifications(
                                InboxQuery(user: user, limit: 20, unreadOnly: true))
                            #expect(page.unread >= page.entries.count)
                            #expect(page.entries.count == 20 || page.unread == page.entries.count)
                            #expect(page.entries.allSatisfy { !$0.isRead })
                            guard let entry = page.entries.randomElement(using: &generator) else { continue }
                            let which: MarkRead =
                                Bool.random(using: &generator)
                                ? .upTo(entry.sequence)
                                : .sequences(
                                    page.entries.filter { _ in Bool.random(using: &generator) }.map(\.sequence))
                            changed += try await store.markRead(user: user, which).changed
                        }
                        return changed
                    }
                }
                return try await group.reduce(0, +)
            }
            var unread = 0
            for user in users {
                let page = try await store.notifications(InboxQuery(user: user, limit: 200))
                #expect(page.entries.count == 30)
                #expect(page.entries.count { !$0.isRead } == page.unread)
                unread += page.unread
            }
            #expect(changed + unread == 90)
            #expect(try await database.count("SELECT count(*) FROM inbox") == 90)
        }
    }
}

/// SplitMix64.
struct Seeded: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        self.state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
