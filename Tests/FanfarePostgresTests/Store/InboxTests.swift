import FanfareEngines
import FanfareModel
import FanfarePostgres
import FanfareTesting
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
            #expect(try await store.inbox(of: try user("x"), after: nil, limit: 1).top == 0)
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
            #expect(try await store.inbox(of: ada, after: nil, limit: 1).top == all.entries[0].sequence)
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
                try await store.mark(ada, .read, .sequences([sequences[2], sequences[2], 999]))
                    == .init(unread: 9, changed: 1))
            #expect(try await store.mark(ada, .read, .sequences([sequences[2]])) == .init(unread: 9, changed: 0))
            #expect(try await store.mark(ada, .read, .sequences([])) == .init(unread: 9, changed: 0))
            #expect(try await unread() == sequences.filter { $0 != sequences[2] })
            #expect(try await store.mark(ada, .read, .upTo(sequences[5])) == .init(unread: 4, changed: 5))
            #expect(try await store.mark(ada, .read, .upTo(sequences[7])) == .init(unread: 4, changed: 0))
            #expect(try await unread() == [0, 1, 3, 4].map { sequences[$0] })
            #expect(
                try await store.notifications(InboxQuery(user: ada, limit: 10)).entries.map(\.isRead)
                    == [false, false, true, false, false, true, true, true, true, true])
            // Far above the top: what comes later is unread all the same.
            #expect(try await store.mark(ada, .read, .upTo(.max)) == .init(unread: 0, changed: 4))
            _ = try await self.notify(store, [ada])
            try await Owner().work(store)
            #expect(try await store.notifications(InboxQuery(user: ada, limit: 1)).unread == 1)
            #expect(try await store.mark(try user("nobody"), .read, .upTo(5)) == .init(unread: 0, changed: 0))
            #expect(try await store.mark(ada, .read, .upTo(0)) == .init(unread: 1, changed: 0))
        }
    }

    /// Several devices read and archive while notifications come in, as rows and as broadcasts: every answer's count is
    /// what a recount of the same moment says, and nobody's change is lost.
    @Test func theCountEqualsARecount() async throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        try await Database.withStore { store, database in
            let users = try (0..<3).map { try user("u\($0)") }
            let streamer = try user("streamer")
            try await store.follow(streamer, by: users)
            let read = try await withThrowingTaskGroup(of: Int.self) { group in
                group.addTask {
                    for round in 0..<30 {
                        if round % 2 == 0 {
                            _ = try await self.notify(store, users)
                            try await Owner().work(store)
                        } else {
                            _ = try await store.raid(streamer)
                            try await database.broadcastAll()
                        }
                    }
                    return 0
                }
                for device in 0..<6 {
                    group.addTask {
                        var generator = SeededGenerator(seed: seed &+ UInt64(device))
                        var read = 0
                        for _ in 0..<40 {
                            let user = users[device % 3]
                            let page = try await store.notifications(
                                InboxQuery(user: user, limit: 200, unreadOnly: true))
                            #expect(page.unread == page.entries.count)
                            #expect(page.entries.allSatisfy { !$0.isRead && !$0.isArchived })
                            guard let entry = page.entries.randomElement(using: &generator) else { continue }
                            let which: InboxSelection =
                                Int.random(in: 0..<4, using: &generator) == 0
                                ? .upTo(entry.sequence)
                                : .sequences(
                                    page.entries.filter { _ in Int.random(in: 0..<4, using: &generator) == 0 }
                                        .map(\.sequence))
                            let mark: InboxMark = Int.random(in: 0..<3, using: &generator) == 0 ? .archived : .read
                            let result = try await store.mark(user, mark, which)
                            if mark == .read { read += result.changed }
                        }
                        return read
                    }
                }
                return try await group.reduce(0, +)
            }
            var (unread, archived) = (0, 0)
            for user in users {
                let page = try await store.notifications(InboxQuery(user: user, limit: 200))
                let away = try await store.notifications(InboxQuery(user: user, limit: 200, isArchived: true))
                #expect(page.entries.count + away.entries.count == 30)
                #expect(page.entries.count { !$0.isRead } == page.unread && away.unread == page.unread)
                #expect(away.entries.allSatisfy { $0.isArchived && $0.isRead })
                #expect(Set((page.entries + away.entries).map(\.sequence)).count == 30)
                unread += page.unread
                archived += away.entries.count
            }
            // Who archives what was unread has read it; who archives what was read has not read it again.
            #expect(read + unread <= 90 && read + unread + archived >= 90)
        }
    }

    /// Two devices mark the same entries at the same time: each change is counted by one of them.
    @Test func changesAreCountedOnce() async throws {
        try await Database.withStore { store, database in
            let (ada, streamer) = (try user("ada"), try user("streamer"))
            try await store.follow(streamer, by: [ada])
            for round in 0..<20 {
                _ = try await store.raid(streamer)
                if round % 2 == 0 { try await database.broadcastAll() } else { try await Owner().work(store) }
            }
            let sequences = try await store.notifications(InboxQuery(user: ada, limit: 20)).entries.map(\.sequence)
            for (mark, expected) in [(InboxMark.read, 20), (.archived, 20)] {
                let changed = try await withThrowingTaskGroup(of: Int.self) { group in
                    for device in 0..<8 {
                        group.addTask {
                            var changed = 0
                            for (index, sequence) in sequences.enumerated() {
                                let which: InboxSelection =
                                    (index + device) % 4 == 0 ? .upTo(sequence) : .sequences([sequence])
                                changed += try await store.mark(ada, mark, which).changed
                            }
                            return changed
                        }
                    }
                    return try await group.reduce(0, +)
                }
                #expect(changed == expected)
            }
            #expect(try await store.notifications(InboxQuery(user: ada, limit: 20)).entries == [])
        }
    }

    /// What comes in while a reader turns pages does not move what is on them.
    @Test func pagesAreStable() async throws {
        try await Database.withStore { store, database in
            let (ada, streamer) = (try user("ada"), try user("streamer"))
            try await store.follow(streamer, by: [ada])
            func comeIn(_ count: Int) async throws {
                for round in 0..<count {
                    _ = try await store.raid(streamer)
                    if round % 2 == 0 { try await database.broadcastAll() } else { try await Owner().work(store) }
                }
            }
            try await comeIn(20)
            let before = try await store.notifications(InboxQuery(user: ada, limit: 200)).entries
            var pages = try await store.notifications(InboxQuery(user: ada, limit: 3)).entries
            while let last = pages.last, pages.count < 20 {
                try await comeIn(2)
                pages += try await store.notifications(InboxQuery(user: ada, limit: 3, before: last.sequence)).entries
            }
            #expect(pages == before)
        }
    }
}
