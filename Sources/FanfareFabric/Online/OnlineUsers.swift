import FanfareCore
package import FanfareModel
import Synchronization

/// Who is online and where, for the shards that this node owns. Read by the fan-out from any loop; announcements come on
/// the main loop.
///
/// What it knows may lag behind by an announcement that is under way; that loses nothing, for a node compares the inboxes
/// of those it announced once the announcement was taken. Look users up after their rows are committed, never before.
package final class OnlineUsers: Sendable {
    private let map: ClusterMap
    private let metrics: FabricMetrics
    private let directory: Mutex<OnlineDirectory>
    /// Users that are looked up under one lock.
    private static let stride = 512

    init(map: ClusterMap, limits: OnlineLimits, metrics: FabricMetrics) {
        self.map = map
        self.metrics = metrics
        self.directory = Mutex(OnlineDirectory(usersPerShard: limits.usersPerShard))
    }

    /// The users of these shards who are online anywhere, in no order.
    package func keys(in shards: [Shard]) -> [UserKey] { shards.flatMap(self.keys(in:)) }

    /// The users of the shard who are online anywhere, in no order.
    package func keys(in shard: Shard) -> [UserKey] { self.directory.withLock { $0.users(in: shard) } }

    /// Some of them, so many at the most.
    package func keys(in shard: Shard, limit: Int) -> [UserKey] {
        self.directory.withLock { $0.users(in: shard, limit: limit) }
    }

    package var count: Int { self.directory.withLock { $0.count } }

    /// Calls `body` with the index of each element whose user is online, the user's shard, and a node: once per node.
    func locate<Element>(
        _ elements: [Element], _ user: (Element) -> UserKey, _ body: (Int, Shard, NodeID) -> Void
    ) {
        var start = 0
        while start < elements.count {
            let end = min(start + OnlineUsers.stride, elements.count)
            self.directory.withLock { directory in
                for index in start..<end {
                    directory.locate(user(elements[index])) { shard, node in body(index, shard, node) }
                }
            }
            start = end
        }
    }

    // MARK: What nodes tell

    func received(_ announcements: [OnlineAnnouncement], from node: NodeID, incarnation: String) -> OnlineAnswer {
        var answer = OnlineAnswer()
        let isMember = self.map.view?.member(node)?.incarnation == incarnation
        self.directory.withLock { directory in
            for announcement in announcements {
                guard isMember, self.map.owns(announcement.shard.slot) else {
                    answer.refused.append(announcement.shard)
                    continue
                }
                switch directory.apply(announcement, from: node, incarnation: incarnation) {
                case .taken(let refused): self.metrics.onlineRefused.increment(by: refused)
                case .wanted: answer.wanted.append(announcement.shard)
                }
            }
            self.record(directory)
        }
        return answer
    }

    func received(_ digests: [OnlineDigest], from node: NodeID, incarnation: String) -> OnlineAnswer {
        var answer = OnlineAnswer()
        let isMember = self.map.view?.member(node)?.incarnation == incarnation
        self.directory.withLock { directory in
            for digest in digests {
                if !isMember || !self.map.owns(digest.shard.slot) {
                    answer.refused.append(digest.shard)
                } else if directory.differs(digest, from: node, incarnation: incarnation) {
                    answer.wanted.append(digest.shard)
                }
            }
        }
        return answer
    }

    /// Forgets at once who left, and what another node owns now.
    func viewChanged(_ view: View) {
        self.directory.withLock { directory in
            directory.keep(
                isMember: { view.member($0)?.incarnation == $1 }, isOwned: { self.map.owns($0.slot) })
            self.record(directory)
        }
    }

    private func record(_ directory: borrowing OnlineDirectory) {
        self.metrics.onlineUsers.record(Double(directory.count))
        self.metrics.onlineFullest.record(Double(directory.largestCount))
    }
}
