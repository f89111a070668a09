import FanfareEngines
import FanfareModel
import FanfarePostgres
import FanfareTesting
import Testing

/// An inbox shows and counts its newest entries, rows and broadcasts alike; the others are as if they were not there.
@Suite struct InboxLimitTests {
    private struct Entry {
        var event: EventID
        var sequence: UInt64 = 0
        var isRead = false
        var isArchived = false
    }

    @Test(arguments: [1, 7]) func theNewestAreShown(limit: Int) async throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        try await Database.withStore({ $0.inboxLimit = limit }) { store, database in
            let (bob, ada) = (try user("bob"), try user("ada"))
            try await store.follow(ada, by: [bob])
            var model: [Entry] = []
            for _ in 0..<60 {
                let shown = model.suffix(limit)
                switch Int.random(in: 0..<6, using: &generator) {
                case 0...2:
                    let isBroadcast = Bool.random(using: &generator)
                    model.append(Entry(event: try await store.raid(ada)))
                    if isBroadcast { try await database.broadcastAll() } else { try await Owner().work(store) }
                    model[model.count - 1].sequence = try await store.inbox(of: bob, after: nil, limit: 1).top
                case 3:
                    let mark: InboxMark = Bool.random(using: &generator) ? .read : .archived
                    let chosen = model.indices.filter { _ in Int.random(in: 0..<3, using: &generator) == 0 }
                    let which = InboxSelection.sequences(chosen.map { model[$0].sequence })
                    try await self.mark(store, bob, mark, which, chosen, &model, limit)
                case 4:
                    guard let last = model.indices.randomElement(using: &generator) else { continue }
                    let mark: InboxMark = Bool.random(using: &generator) ? .read : .archived
                    let upTo = model[last].sequence
                    try await self.mark(store, bob, mark, .upTo(upTo), Array(0...last), &model, limit)
                default:
                    let unread = shown.count { !$0.isRead }
                    for (isUnread, isArchived) in [(false, false), (true, false), (false, true)] {
                        let expected = shown.reversed().filter {
                            $0.isArchived == isArchived && !(isUnread && $0.isRead)
                        }
                        var pages: [InboxEntry] = []
                        var isLast = false
                        while !isLast {
                            let page = try await store.notifications(
                                InboxQuery(
                                    user: bob, limit: 3, before: pages.last?.sequence, unreadOnly: isUnread,
                                    isArchived: isArchived))
                            #expect(page.unread == unread)
                            pages += page.entries
                            isLast = page.entries.isEmpty
                        }
                        #expect(pages.map(\.event) == expected.map(\.event), "\(isUnread) \(isArchived)")
                    }
                }
            }
            #expect(model.count > limit)
        }
    }

    private func mark(
        _ store: PostgresStore, _ bob: UserID, _ mark: InboxMark, _ which: InboxSelection, _ chosen: [Int],
        _ model: inout [Entry], _ limit: Int
    ) async throws {
        let result = try await store.mark(bob, mark, which)
        var changed = 0
        for index in chosen where index >= model.count - limit {
            if mark == .read ? !model[index].isRead : !model[index].isArchived { changed += 1 }
            model[index].isRead = true
            if mark == .archived { model[index].isArchived = true }
        }
        let unread = model.suffix(limit).count { !$0.isRead }
        #expect(result == MarkResult(unread: unread, changed: changed))
    }
}
