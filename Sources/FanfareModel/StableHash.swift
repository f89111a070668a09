/// A hash that is the same in every process, on every node and in every release: slots, ring points and fan-out shards
/// are computed from it. FNV-1a over the bytes, then the finalizer of MurmurHash3 so that short keys spread evenly.
package enum StableHash {
    package static func hash(_ bytes: some Sequence<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes {
            hash ^= UInt64(byte)
            hash &*= 0x0000_0100_0000_01b3
        }
        hash ^= hash >> 33
        hash &*= 0xff51_afd7_ed55_8ccd
        hash ^= hash >> 33
        hash &*= 0xc4ce_b9fe_1a85_ec53
        hash ^= hash >> 33
        return hash
    }

    package static func hash(_ text: String) -> UInt64 { self.hash(text.utf8) }
}

/// Rooms and users fall into slots; slots are owned by nodes.
package struct Slot: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// How many slots there are, in every cluster.
    package static let count = 1024

    package let index: Int

    package init(index: Int) {
        precondition((0..<Slot.count).contains(index))
        self.index = index
    }

    /// The slot of a channel's or a user's name.
    package init(of key: String) { self.index = Int(StableHash.hash(key) % UInt64(Slot.count)) }

    package var description: String { String(self.index) }
    package static func < (left: Slot, right: Slot) -> Bool { left.index < right.index }
    package static var all: [Slot] { (0..<Slot.count).map(Slot.init(index:)) }
}

/// A slice of the users, whose inboxes one fan-out actor writes. Stored with every user and follow: never changes.
package struct Shard: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// How many shards there are, in every cluster.
    package static let count = 256

    package let index: Int

    package init(index: Int) {
        precondition((0..<Shard.count).contains(index))
        self.index = index
    }

    package init(of user: UserID) { self.index = Int(StableHash.hash(user.rawValue) % UInt64(Shard.count)) }

    /// Shards are owned through the ring like slots: the node that owns this slot owns the shard.
    package var slot: Slot { Slot(of: "shard:\(self.index)") }

    package var description: String { String(self.index) }
    package static func < (left: Shard, right: Shard) -> Bool { left.index < right.index }
}
