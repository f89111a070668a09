import FanfareEngines
import FanfareModel

extension Session {
    /// The store was away when the client connected: it is given what came since.
    func catchUpByTime() async throws(FanfareError) {
        let limit = min(self.services.limits.inboxRecovery, LateInbox.maximumLimit)
        let page = try await self.services.backend.notifications(InboxQuery(user: self.user, limit: limit + 1))
        guard case .connected = self.phase, self.inboxSequence == nil else { return }
        guard self.inboxReads == 0 else { return self.doubtInbox() }
        // Too much for pushes: the client recovers, and is told how.
        guard let late = LateInbox(page.entries, since: self.inboxOpened ?? self.wallClock, limit: limit) else {
            return self.close(.insufficientState)
        }
        self.inboxSequence = late.position
        for entry in late.entries { self.give(InboxPush(entry)) }
    }
}

/// What is owed to a client that connected while no position was known: told by its time.
struct LateInbox: Sendable, Hashable {
    /// Entries that are read at once, but for the one that shows where they end.
    static let maximumLimit = 999
    /// By so much the clock of the database may differ from the node's. One that is farther behind hides what came in
    /// that time from the pushes; the inbox has it.
    static let clockSkew: Int64 = 5000

    /// Ascending.
    var entries: [InboxEntry]
    /// The sequence of the last entry before them; 0 where there is none.
    var position: UInt64

    /// - Parameters:
    ///   - newest: the newest entries of the inbox, descending: `limit` and one more, or all there are.
    ///   - since: when the client connected, by the node's clock.
    /// - Returns: nil where there are more than `limit`.
    init?(_ newest: [InboxEntry], since: Timestamp, limit: Int) {
        let entries = newest.prefix { $0.createdAt.milliseconds >= since.milliseconds - LateInbox.clockSkew }
        guard entries.count <= limit else { return nil }
        self.entries = entries.reversed()
        self.position = newest.dropFirst(entries.count).first?.sequence ?? 0
    }
}
