package import FanfareModel

/// Where a message with pushes of a shard stands among all that one node was sent: pushes of a shard come from its owner
/// alone, one after the other.
///
/// A push covers up for what was missed before it, since sessions drop what lies below the last sequence given. So the first
/// one of an owner, and one after a lost one, has the node compare inboxes before it is given. Older owners can write no
/// more by then: the owner took its fence before it wrote what it pushes.
package struct PushLink: Sendable, Hashable {
    package var shard: Shard
    /// Stands for the owner's fence.
    package var chain: UInt64
    /// Counts the messages with pushes of the shard from this owner to the node, from 1.
    package var index: UInt64

    package init(shard: Shard, chain: UInt64, index: UInt64) {
        self.shard = shard
        self.chain = chain
        self.index = index
    }
}

/// What one owner sends to one node.
struct PushChainSource {
    private var links: [Shard: PushLink] = [:]
    private let salt: UInt64

    /// - Parameter salt: another one for each source that replaces one for the same node, so that no two count alike.
    init(salt: UInt64) { self.salt = salt }

    /// The next links, one for each shard that a message has pushes of. Messages that are never sent count as lost.
    mutating func next(_ shards: some Sequence<Shard>, by fences: [Shard: Fence]) -> [PushLink] {
        shards.sorted().map { shard in
            let chain = (fences[shard].map { StableHash.hash($0.description.utf8) } ?? 0) ^ self.salt
            var link = self.links[shard] ?? PushLink(shard: shard, chain: chain, index: 0)
            if link.chain != chain { link = PushLink(shard: shard, chain: chain, index: 0) }
            link.index += 1
            self.links[shard] = link
            return link
        }
    }
}

/// What a node was sent, by all owners.
struct PushChainSink {
    private var links: [Shard: PushLink] = [:]

    /// The shards of which something may have been missed before these links. A message that comes again misses nothing.
    func broken(by links: [PushLink]) -> Set<Shard> {
        let broken = links.filter { link in
            guard let last = self.links[link.shard], last.chain == link.chain else { return true }
            return link.index != last.index && link.index != last.index &+ 1
        }
        return Set(broken.map(\.shard))
    }

    /// The messages were delivered, and inboxes that may have missed something before are being compared.
    mutating func follow(_ links: [PushLink]) {
        for link in links { self.links[link.shard] = link }
    }
}
