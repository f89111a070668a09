package import FanfareModel

/// Those of a shard who hear of a large event before the others: who is online, then who was lately. Pure.
///
/// The list is chosen once and kept. Its users are written in its order; the others are written in the order of their keys,
/// without those on the list: so nobody is written twice, and nobody is left out.
package struct FanoutAhead: Sendable, Hashable {
    package private(set) var users: [UserKey]
    /// How many of them are written.
    package private(set) var written: Int

    package init(users: [UserKey], written: Int = 0) {
        self.users = users
        self.written = min(written, users.count)
    }

    /// - Parameters:
    ///   - online: those online who are meant, in any order.
    ///   - recent: those active of late who are meant, the latest first; may be online, too.
    ///   - limit: how many are chosen at the most.
    package init(online: [UserKey], recent: [UserKey], limit: Int) {
        var seen: Set<UserKey> = []
        var users: [UserKey] = []
        for user in online + recent where users.count < limit && seen.insert(user).inserted { users.append(user) }
        self.init(users: users)
    }

    package var isWritten: Bool { self.written == self.users.count }

    /// The next ones.
    package func next(_ count: Int) -> ArraySlice<UserKey> { self.users[self.written...].prefix(max(0, count)) }

    package mutating func advance(by count: Int) { self.written = min(self.written + count, self.users.count) }

    /// Leaves those that are not written to the others' way.
    package mutating func giveUp() { self.users.removeLast(self.users.count - self.written) }

    /// Whom those who are written in the order of their keys have to leave out, after this key.
    package func others(after cursor: Int64) -> [Int64] {
        self.users.map(\.rawValue).filter { $0 > cursor }
    }
}

/// How many are chosen, and how many are looked at for it, in each shard.
package struct AheadLimits: Sendable, Hashable {
    /// At the most; 0: nobody goes ahead.
    package var users: Int
    /// Days for which a user counts as active of late.
    package var days = 30

    package init(users: Int) { self.users = users }

    /// Users online who are asked whether the event is for them: more of an event that is for more, so that it never costs
    /// much beside the event itself.
    /// - Parameter share: recipients in the shard, about.
    package func online(share: Int) -> Int { min(8 * self.users, 2 * share + 32) }

    /// As `online`, of those who were active of late.
    package func recent(share: Int) -> Int { min(4 * self.users, share / 4 + 16) }
}
