package import FanfareModel

/// Maps the 1024 slots to a view's nodes. A pure function of the view: every node computes the same.
///
/// Weighted rendezvous hashing: for each node the slots are ranked by a hash, a rank gives a cost (the logarithm that
/// makes wins proportional to weights), and a slot belongs to the node where it costs least. Ranks instead of bare hashes
/// give every node the same spread of costs, which halves the variance of its share. A node that joins takes slots and
/// gives none; nothing moves between the others.
///
/// Bounded load: no node owns more than ⌈1.25 × its weighted mean⌉. Above it, slots and nodes are matched by deferred
/// acceptance (slots ask nodes in order of cost, a full node keeps its cheapest), so the outcome does not depend on any
/// order of work, and only the slots above a bound leave their first choice.
package enum Ring {
    /// The load bound over a node's weighted mean.
    package static let boundNumerator = 5
    package static let boundDenominator = 4

    /// The members that own slots: the active ones, or all where none is active.
    package static func owners(in view: View) -> [Member] {
        let active = view.members.filter { $0.state == .active }
        return active.isEmpty ? view.members : active
    }

    /// The most slots that `member` may own beside `members` (which has it too).
    package static func bound(of member: Member, among members: [Member]) -> Int {
        let total = members.reduce(0) { $0 + self.weight(of: $1) } * self.boundDenominator
        return (self.boundNumerator * Slot.count * self.weight(of: member) + total - 1) / total
    }

    /// The index in `members` of each slot's owner; empty where there are no members.
    package static func assign(to members: [Member]) -> [Int] {
        self.assign(to: members, bounds: members.map { self.bound(of: $0, among: members) })
    }

    /// - Parameter bounds: the most slots that each member may own; in sum at least all slots.
    static func assign(to members: [Member], bounds: [Int]) -> [Int] {
        guard members.count > 1 else { return members.isEmpty ? [] : Array(repeating: 0, count: Slot.count) }
        let costs = members.map { self.costs(of: $0) }
        var owner = Array(repeating: -1, count: Slot.count)
        var owned = Array(repeating: [Int](), count: members.count)
        var waiting = Array(0..<Slot.count)
        // A slot never asks a node twice: what it asks next costs more than what refused it.
        var refusedBy = Array(repeating: -1, count: Slot.count)

        func isCheaper(_ slot: Int, _ left: Int, than right: Int) -> Bool {
            (costs[left][slot], left) < (costs[right][slot], right)
        }
        while let slot = waiting.popLast() {
            var best = -1
            for node in members.indices {
                if refusedBy[slot] >= 0, !isCheaper(slot, refusedBy[slot], than: node) { continue }
                if best < 0 || isCheaper(slot, node, than: best) { best = node }
            }
            // The bounds add up to more than all slots, so that every slot finds a place.
            guard best >= 0 else { continue }
            owned[best].append(slot)
            owner[slot] = best
            if owned[best].count > bounds[best] {
                var dearest = 0
                for index in owned[best].indices {
                    let candidate = owned[best][index]
                    let present = owned[best][dearest]
                    if (costs[best][candidate], candidate) > (costs[best][present], present) { dearest = index }
                }
                let refused = owned[best].remove(at: dearest)
                owner[refused] = -1
                refusedBy[refused] = best
                waiting.append(refused)
            }
        }
        return owner
    }

    private static func weight(of member: Member) -> Int { min(max(member.weight, 1), 100) }

    /// What each slot costs at this node. Depends on the node's name and weight alone.
    private static func costs(of member: Member) -> [Double] {
        let seed = StableHash.hash(member.node.rawValue)
        // The slot stands in the low bits of its hash: plain integers sort fast.
        var ranked: [UInt64] = []
        ranked.reserveCapacity(Slot.count)
        for slot in 0..<UInt64(Slot.count) {
            ranked.append(self.mix(seed ^ self.mix(slot &+ 0x9e37_79b9_7f4a_7c15)) & ~1023 | slot)
        }
        ranked.sort()
        var costs = Array(repeating: 0.0, count: Slot.count)
        let weight = Double(self.weight(of: member))
        var rank = 0.0
        for hash in ranked {
            // Uniform within the rank's stratum, so that two nodes hardly ever tie.
            let within = Double(self.mix(hash) >> 11) * 0x1p-53
            costs[Int(hash & 1023)] = -self.logarithm((rank + within + 0x1p-54) / Double(Slot.count)) / weight
            rank += 1
        }
        return costs
    }

    /// The finalizer of splitmix64.
    private static func mix(_ value: UInt64) -> UInt64 {
        var value = value
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }

    /// The natural logarithm from additions, multiplications and divisions alone: IEEE 754 makes these the same on every
    /// machine, while the last digit of a C library's `log` may differ between nodes.
    static func logarithm(_ value: Double) -> Double {
        let z = (value.significand - 1) / (value.significand + 1)
        let square = z * z
        var power = z
        var sum = 0.0
        var divisor = 1.0
        while divisor <= 41 {
            sum += power / divisor
            power *= square
            divisor += 2
        }
        return 2 * sum + Double(value.exponent) * 0.693_147_180_559_945_3
    }
}
