package import FanfareModel

/// Who is online and where, for the shards that this node owns: pure state, fed by the announcements of all nodes.
package struct OnlineDirectory: Sendable {
    package enum Outcome: Sendable, Hashable {
        /// Done, or done before. `refused`: users for whom there is no room.
        case taken(refused: Int)
        /// The shard must be sent whole.
        case wanted
    }

    /// What one node announced of one shard.
    private struct Replica {
        var incarnation: String
        var version: UInt64
        var users: Set<UserKey> = []
        var summary = UserSummary()
        /// Some users were refused: the sender's summary is another one, and rightly so.
        var isTruncated = false
    }

    private struct Place {
        let shard: UInt16
        var first: UInt16
        /// Few users are on more than one node.
        var others: [UInt16] = []
    }

    private let usersPerShard: Int
    private var replicas: [[NodeID: Replica]] = Array(repeating: [:], count: Shard.count)
    private var counts = Array(repeating: 0, count: Shard.count)
    private var places: [UserKey: Place] = [:]
    /// Nodes by small numbers; the numbers of those that are forgotten are given again.
    private var nodes: [NodeID?] = []
    private var numbers: [NodeID: UInt16] = [:]

    package init(usersPerShard: Int = OnlineLimits().usersPerShard) { self.usersPerShard = max(0, usersPerShard) }

    /// Users, each counted once.
    package var count: Int { self.places.count }

    /// Users of the shard that has the most.
    package var largestCount: Int { self.counts.max() ?? 0 }

    package func count(in shard: Shard) -> Int { self.counts[shard.index] }

    package func users(in shard: Shard) -> [UserKey] {
        let replicas = self.replicas[shard.index]
        guard replicas.count > 1 else { return replicas.values.first.map { Array($0.users) } ?? [] }
        return Array(replicas.values.reduce(into: Set<UserKey>()) { $0.formUnion($1.users) })
    }

    /// Some of them, so many at the most.
    package func users(in shard: Shard, limit: Int) -> [UserKey] {
        var users: Set<UserKey> = []
        for replica in self.replicas[shard.index].values {
            for user in replica.users {
                guard users.count < limit else { return Array(users) }
                users.insert(user)
            }
        }
        return Array(users)
    }

    /// Calls `body` with the shard of the user and each node that the user is on.
    package func locate(_ user: UserKey, _ body: (Shard, NodeID) -> Void) {
        guard let place = self.places[user] else { return }
        let shard = Shard(index: Int(place.shard))
        if let node = self.nodes[Int(place.first)] { body(shard, node) }
        for number in place.others { if let node = self.nodes[Int(number)] { body(shard, node) } }
    }

    // MARK: Announcements

    package mutating func apply(
        _ announcement: OnlineAnnouncement, from node: NodeID, incarnation: String
    ) -> Outcome {
        let shard = announcement.shard
        if let known = self.replicas[shard.index][node], known.incarnation != incarnation {
            self.forget(node, in: shard)
        }
        let known = self.replicas[shard.index][node]
        // An older one that was under way for long.
        if let known, announcement.version <= known.version { return .taken(refused: 0) }
        var replica = known ?? Replica(incarnation: incarnation, version: 0)
        let number = self.number(of: node)
        var refused = 0
        if let base = announcement.base {
            guard let known, base <= known.version else { return .wanted }
            for user in announcement.leaves { self.remove(user, from: &replica, number, shard) }
        } else {
            let users = Set(announcement.joins)
            for user in replica.users.subtracting(users) { self.remove(user, from: &replica, number, shard) }
            replica.isTruncated = false
        }
        for user in announcement.joins where !self.add(user, to: &replica, number, shard) { refused += 1 }
        if refused > 0 { replica.isTruncated = true }
        replica.version = announcement.version
        self.replicas[shard.index][node] = replica
        return .taken(refused: refused)
    }

    /// - Returns: whether the sender has to send the shard whole.
    package func differs(_ digest: OnlineDigest, from node: NodeID, incarnation: String) -> Bool {
        guard let replica = self.replicas[digest.shard.index][node], replica.incarnation == incarnation else {
            return digest.summary.count > 0
        }
        // A newer announcement has come meanwhile: the next digest tells.
        guard replica.version <= digest.version else { return false }
        if replica.version < digest.version { return true }
        // Those who were refused are asked for again where there is room.
        if replica.isTruncated { return self.counts[digest.shard.index] < self.usersPerShard / 10 * 9 }
        return replica.summary != digest.summary
    }

    // MARK: Membership

    /// Forgets the nodes that are not (any more) what `isMember` says, and the shards that others own.
    package mutating func keep(isMember: (NodeID, String) -> Bool, isOwned: (Shard) -> Bool) {
        for index in 0..<Shard.count where !self.replicas[index].isEmpty {
            let shard = Shard(index: index)
            let stays = isOwned(shard)
            for (node, replica) in self.replicas[index] where !stays || !isMember(node, replica.incarnation) {
                self.forget(node, in: shard)
            }
        }
        for (node, number) in self.numbers where !self.replicas.contains(where: { $0[node] != nil }) {
            self.numbers[node] = nil
            self.nodes[Int(number)] = nil
        }
    }

    private mutating func forget(_ node: NodeID, in shard: Shard) {
        guard var replica = self.replicas[shard.index].removeValue(forKey: node) else { return }
        let number = self.number(of: node)
        for user in replica.users { self.remove(user, from: &replica, number, shard) }
    }

    // MARK: Places

    /// - Returns: false where there is no room.
    private mutating func add(
        _ user: UserKey, to replica: inout Replica, _ number: UInt16, _ shard: Shard
    ) -> Bool {
        guard !replica.users.contains(user) else { return true }
        if self.places[user] != nil {
            self.places[user]?.others.append(number)
        } else {
            guard self.counts[shard.index] < self.usersPerShard else { return false }
            self.places[user] = Place(shard: UInt16(shard.index), first: number)
            self.counts[shard.index] += 1
        }
        replica.users.insert(user)
        replica.summary.joined(user)
        return true
    }

    private mutating func remove(_ user: UserKey, from replica: inout Replica, _ number: UInt16, _ shard: Shard) {
        guard replica.users.remove(user) != nil else { return }
        replica.summary.left(user)
        guard var place = self.places[user] else { return }
        if place.first != number {
            place.others.removeAll { $0 == number }
        } else if let next = place.others.popLast() {
            place.first = next
        } else {
            self.places[user] = nil
            self.counts[shard.index] -= 1
            return
        }
        self.places[user] = place
    }

    private mutating func number(of node: NodeID) -> UInt16 {
        if let number = self.numbers[node] { return number }
        if let free = self.nodes.firstIndex(of: nil) {
            self.nodes[free] = node
            self.numbers[node] = UInt16(free)
            return UInt16(free)
        }
        self.nodes.append(node)
        let number = UInt16(self.nodes.count - 1)
        self.numbers[node] = number
        return number
    }
}
