package import FanfareModel

/// What a node has told the owners of its users' shards, and what it has to tell them next: pure state, driven by
/// `OnlineAnnouncer`.
///
/// A user whose announcement was taken is *known*: rows that are committed from then on are pushed here. What was committed
/// before is found by comparing the inbox once afterwards; `acknowledged` says whose.
package struct OnlineLedger: Sendable {
    /// Whom a shard is announced to.
    package struct Target: Sendable, Hashable {
        package var node: NodeID
        package var incarnation: String

        package init(node: NodeID, incarnation: String) {
            self.node = node
            self.incarnation = incarnation
        }
    }

    /// Announcements that leave together, and wait for one answer.
    package struct Batch: Sendable, Hashable {
        package var target: Target
        package var announcements: [OnlineAnnouncement]
    }

    private struct Flight: Sendable {
        let version: UInt64
        let isSnapshot: Bool
        let changes: [UserKey: Bool]
        let joins: [UserKey]
    }

    private struct Stream: Sendable {
        /// On how many of the node's loops each user has sessions.
        var users: [UserKey: Int] = [:]
        var summary = UserSummary()
        var target: Target?
        /// The target has nothing of this node.
        var isBlank = true
        var wantsSnapshot = false
        /// Sessions must hold their pushes before the next announcement leaves: some may have been lost.
        var mustDoubt = false
        var version: UInt64 = 0
        var acknowledged: UInt64 = 0
        /// What became of users since the last announcement that was sent: true for online.
        var changes: [UserKey: Bool] = [:]
        /// An announcement may or may not have been taken: a change and its opposite no longer cancel each other out.
        var isUncertain = false
        var flight: Flight?

        var isDue: Bool {
            guard self.target != nil, self.flight == nil, !self.mustDoubt else { return false }
            if self.wantsSnapshot { return !(self.isBlank && self.users.isEmpty) }
            return !self.changes.isEmpty
        }
    }

    private let limits: OnlineLimits
    private var streams = Array(repeating: Stream(), count: Shard.count)
    /// How often a shard's changes were given up for a snapshot.
    package private(set) var overflows = 0

    package init(limits: OnlineLimits = OnlineLimits()) { self.limits = limits }

    /// Changes that wait for their announcement, of all shards.
    package var waitingChanges: Int { self.streams.reduce(0) { $0 + $1.changes.count } }

    // MARK: Users

    /// The user has sessions on one more loop.
    /// - Returns: whether the user is known already; else `acknowledged` tells when.
    package mutating func joined(_ user: UserKey, _ shard: Shard) -> Bool {
        let loops = (self.streams[shard.index].users[user] ?? 0) + 1
        self.streams[shard.index].users[user] = loops
        if loops == 1 {
            self.streams[shard.index].summary.joined(user)
            self.record(user, isOnline: true, shard)
        }
        return self.isKnown(user, shard)
    }

    /// The user has no session any more on a loop that had some.
    package mutating func left(_ user: UserKey, _ shard: Shard) {
        guard let loops = self.streams[shard.index].users[user] else { return }
        guard loops == 1 else {
            self.streams[shard.index].users[user] = loops - 1
            return
        }
        self.streams[shard.index].users[user] = nil
        self.streams[shard.index].summary.left(user)
        self.record(user, isOnline: false, shard)
    }

    package func isKnown(_ user: UserKey, _ shard: Shard) -> Bool {
        let stream = self.streams[shard.index]
        guard stream.target != nil, stream.users[user] != nil else { return false }
        guard !stream.wantsSnapshot, !stream.mustDoubt, stream.changes[user] == nil else { return false }
        guard let flight = stream.flight else { return true }
        return !flight.isSnapshot && flight.changes[user] == nil
    }

    private mutating func record(_ user: UserKey, isOnline: Bool, _ shard: Shard) {
        // A snapshot that is to be made will say it.
        guard !self.streams[shard.index].wantsSnapshot else { return }
        if !self.streams[shard.index].isUncertain, self.streams[shard.index].changes[user] == !isOnline {
            self.streams[shard.index].changes[user] = nil
            return
        }
        self.streams[shard.index].changes[user] = isOnline
        self.boundChanges(shard)
    }

    private mutating func boundChanges(_ shard: Shard) {
        guard self.streams[shard.index].changes.count > self.limits.changesPerShard else { return }
        self.overflows += 1
        self.wantSnapshot(shard)
    }

    private mutating func wantSnapshot(_ shard: Shard) {
        self.streams[shard.index].wantsSnapshot = true
        self.streams[shard.index].changes = [:]
    }

    // MARK: Owners

    /// The owner of the shard by the present view.
    /// - Returns: whether it is another one, so that users of the shard may miss pushes until they are known to it.
    package mutating func retarget(_ shard: Shard, to target: Target?) -> Bool {
        guard self.streams[shard.index].target != target else { return false }
        self.streams[shard.index].target = target
        self.streams[shard.index].isBlank = true
        self.lose(shard)
        return !self.streams[shard.index].users.isEmpty
    }

    /// The owners may have forgotten this node: all is announced again.
    package mutating func renew() {
        for index in 0..<Shard.count {
            if self.streams[index].version > 0 { self.streams[index].isBlank = false }
            self.lose(Shard(index: index))
        }
    }

    private mutating func lose(_ shard: Shard) {
        self.streams[shard.index].flight = nil
        self.streams[shard.index].mustDoubt = true
        self.wantSnapshot(shard)
    }

    /// Shards whose sessions have to hold their pushes before anything is announced.
    package var doubted: [Shard] {
        (0..<Shard.count).filter { self.streams[$0].mustDoubt && self.streams[$0].target != nil }
            .map(Shard.init(index:))
    }

    /// The sessions of these shards hold their pushes now.
    package mutating func holdPushes(of shards: [Shard]) {
        for shard in shards { self.streams[shard.index].mustDoubt = false }
    }

    /// Nodes that something is to be announced to.
    package var due: Set<NodeID> {
        self.streams.reduce(into: []) { nodes, stream in
            if stream.isDue, let target = stream.target { nodes.insert(target.node) }
        }
    }

    // MARK: Announcing

    /// The next announcements for this node: at least one where any is due. They are under way until `acknowledged` or
    /// `failed`.
    package mutating func take(for node: NodeID) -> Batch? {
        var batch: Batch?
        var room = self.limits.keysPerMessage
        for index in 0..<Shard.count where room > 0 {
            guard self.streams[index].isDue, let target = self.streams[index].target, target.node == node else {
                continue
            }
            let announcement = self.depart(Shard(index: index))
            room -= announcement.joins.count + announcement.leaves.count + 1
            if batch == nil { batch = Batch(target: target, announcements: []) }
            batch?.announcements.append(announcement)
        }
        return batch
    }

    private mutating func depart(_ shard: Shard) -> OnlineAnnouncement {
        var stream = self.streams[shard.index]
        defer { self.streams[shard.index] = stream }
        stream.version += 1
        stream.isBlank = false
        let announcement: OnlineAnnouncement
        if stream.wantsSnapshot {
            announcement = OnlineAnnouncement(
                shard: shard, base: nil, version: stream.version, joins: stream.users.keys.sorted())
        } else {
            announcement = OnlineAnnouncement(
                shard: shard, base: stream.acknowledged, version: stream.version,
                joins: stream.changes.filter(\.value).keys.sorted(),
                leaves: stream.changes.filter { !$0.value }.keys.sorted())
        }
        stream.flight = Flight(
            version: stream.version, isSnapshot: stream.wantsSnapshot, changes: stream.changes,
            joins: announcement.joins)
        stream.wantsSnapshot = false
        stream.isUncertain = false
        stream.changes = [:]
        return announcement
    }

    /// The target answered.
    /// - Returns: users who are known from now on: their inboxes have to be compared once.
    package mutating func acknowledged(_ batch: Batch, _ answer: OnlineAnswer) -> [UserKey] {
        var known: [UserKey] = []
        for announcement in batch.announcements {
            let index = announcement.shard.index
            // Another owner has taken over meanwhile.
            guard self.streams[index].target == batch.target, let flight = self.streams[index].flight,
                flight.version == announcement.version
            else { continue }
            if answer.refused.contains(announcement.shard) {
                self.fail(announcement.shard, flight)
            } else if answer.wanted.contains(announcement.shard) {
                // Pushes may have been lost, of users who were thought to be known too.
                self.lose(announcement.shard)
            } else {
                self.streams[index].flight = nil
                self.streams[index].acknowledged = flight.version
                known += flight.joins
            }
        }
        return known
    }

    /// No answer: the announcements may or may not have been taken.
    package mutating func failed(_ batch: Batch) {
        for announcement in batch.announcements {
            let index = announcement.shard.index
            guard self.streams[index].target == batch.target, let flight = self.streams[index].flight,
                flight.version == announcement.version
            else { continue }
            self.fail(announcement.shard, flight)
        }
    }

    private mutating func fail(_ shard: Shard, _ flight: Flight) {
        self.streams[shard.index].flight = nil
        guard !flight.isSnapshot else { return self.wantSnapshot(shard) }
        guard !self.streams[shard.index].wantsSnapshot else { return }
        // The later one counts, and it is said even where it only takes the earlier one back.
        self.streams[shard.index].isUncertain = true
        self.streams[shard.index].changes.merge(flight.changes) { later, _ in later }
        self.boundChanges(shard)
    }

    // MARK: Digests

    /// What this node's owners should know, by node; shards with an announcement under way or to come are left out.
    package func digests() -> [Target: [OnlineDigest]] {
        var digests: [Target: [OnlineDigest]] = [:]
        for (index, stream) in self.streams.enumerated() {
            guard let target = stream.target, !stream.isBlank, !stream.wantsSnapshot, stream.flight == nil,
                stream.changes.isEmpty
            else { continue }
            digests[target, default: []].append(
                OnlineDigest(shard: Shard(index: index), version: stream.acknowledged, summary: stream.summary))
        }
        return digests
    }

    /// - Returns: how many shards have to be announced again because the owner has something else.
    package mutating func compared(_ digests: [OnlineDigest], by target: Target, _ answer: OnlineAnswer) -> Int {
        var repairs = 0
        for digest in digests where answer.wanted.contains(digest.shard) {
            let stream = self.streams[digest.shard.index]
            guard stream.target == target, stream.acknowledged == digest.version, stream.flight == nil,
                !stream.wantsSnapshot
            else { continue }
            self.lose(digest.shard)
            repairs += 1
        }
        return repairs
    }
}
