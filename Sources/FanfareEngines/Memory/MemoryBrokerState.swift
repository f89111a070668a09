package import FanfareModel

/// What a broker stores, without a link, a lock or a clock: membership with leases, fences and room logs. The same calls
/// with the same times give the same results. A copy is a snapshot, for `rollBack`.
package struct MemoryBrokerState: Sendable {
    /// Above a limit, calls that would store more throw `.overloaded`.
    package struct Limits: Sendable, Hashable {
        /// Rooms whose position is kept.
        package var rooms: Int
        /// Bytes of bodies of all rooms together.
        package var bytes: Int
        /// Idempotency keys remembered in all rooms together.
        package var idempotencyKeys: Int

        package init(rooms: Int = 1_000_000, bytes: Int = 1 << 30, idempotencyKeys: Int = 1_000_000) {
            self.rooms = rooms
            self.bytes = bytes
            self.idempotencyKeys = idempotencyKeys
        }
    }

    struct Lease: Sendable {
        var member: Member
        var deadline: MonotonicInstant
    }

    struct Claim: Sendable {
        var fence: Fence
        var view: UInt64
        var node: NodeID
        var incarnation: String
        /// The engine's run in which it was made or renewed last.
        var run: UInt64
    }

    let limits: Limits
    private var viewNumber: ViewNumber?
    private var leases: [NodeID: Lease] = [:]
    private var claims: [Slot: Claim] = [:]
    var rooms: [String: StoredLog] = [:]
    /// The keys of `rooms` for the sweep, and where it goes on.
    var sweepOrder: [String] = []
    var sweepCursor = 0
    /// Grows with every restart of the engine: rooms know in which run they were written last.
    var run: UInt64 = 0
    /// The run in which a member was heard last.
    private var runHeard: UInt64 = 0
    /// Members that were not heard since the engine was restarted.
    private var awaited: Set<NodeID> = []
    package internal(set) var storedBytes = 0
    package internal(set) var storedIdempotencyKeys = 0

    package init(limits: Limits = Limits()) { self.limits = limits }

    /// How many rooms' positions are kept.
    package var roomCount: Int { self.rooms.count }

    /// The engine lost everything.
    package mutating func wipe() { self.rollBack(to: MemoryBrokerState(limits: self.limits)) }

    /// The engine came back with what it had once: all that it did since is lost.
    package mutating func rollBack(to snapshot: MemoryBrokerState) {
        let run = max(self.run, snapshot.run) + 1
        self = snapshot
        self.run = run
    }

    // MARK: Membership

    /// The view as of the last change; nil where the key space is empty.
    package var view: View? {
        self.viewNumber.map { View(number: $0, members: self.leases.values.map(\.member)) }
    }

    /// - Returns: the view, and whether this call changed it.
    /// - Throws: `.fenced` where the name is in use.
    package mutating func heartbeat(
        _ member: Member, lease: Duration, newGeneration: String, seen: ViewNumber? = nil, now: MonotonicInstant
    ) throws(EngineError) -> (view: View, changed: Bool) {
        self.sweep(rooms: 256, now: now)
        if self.viewNumber != nil, let held = self.leases[member.node], held.member.incarnation != member.incarnation,
            held.deadline > now + lease / 3
        {
            throw EngineError(.fenced, "the name is in use at \(held.member.address)")
        }
        let before = self.viewNumber
        if before == nil {
            self.leases = [:]
            self.viewNumber = ViewNumber(generation: newGeneration, number: 0)
        }
        if self.runHeard != self.run {
            // Until all have told what they saw, nobody is given a slot. Nobody is counted out by who comes first.
            self.awaited = Set(self.leases.keys)
            self.runHeard = self.run
            for (node, held) in self.leases { self.leases[node]?.deadline = max(held.deadline, now + lease) }
        }
        // A view that was given out is lost: its number must not be given to another one.
        let isBehind = before.map { seen?.generation == $0.generation && (seen?.number ?? 0) > $0.number } ?? false
        if isBehind, let seen { self.viewNumber = seen }
        var changed = before == nil || isBehind || self.leases[member.node]?.member != member
        self.leases[member.node] = Lease(member: member, deadline: now + lease)
        self.awaited.remove(member.node)
        for (node, held) in self.leases where held.deadline <= now && node != member.node {
            self.leases[node] = nil
            self.awaited.remove(node)
            changed = true
        }
        if changed { self.viewNumber?.number += 1 }
        let number = self.viewNumber ?? ViewNumber(generation: newGeneration, number: 1)
        return (View(number: number, members: self.leases.values.map(\.member)), changed)
    }

    /// - Returns: whether this changed the view.
    package mutating func leave(_ member: Member) -> Bool {
        guard self.leases[member.node]?.member.incarnation == member.incarnation else { return false }
        self.leases[member.node] = nil
        self.awaited.remove(member.node)
        self.viewNumber?.number += 1
        return true
    }

    // MARK: Fences

    package mutating func claim(
        _ slot: Slot, view: ViewNumber, node: NodeID, incarnation: String, held: Fence? = nil
    ) throws(EngineError) -> Fence {
        guard let current = self.viewNumber, current.generation == view.generation else {
            throw EngineError(.fenced, "view \(view) is not of the current generation")
        }
        guard view.number >= current.number else { throw EngineError(.fenced, "the current view is \(current)") }
        guard self.runHeard == self.run, self.awaited.isEmpty else {
            throw EngineError(.fenced, "not all members were heard since the engine was restarted")
        }
        var number: UInt64 = 1
        if var claim = self.claims[slot], claim.fence.generation == view.generation {
            number = claim.fence.number
            if claim.node == node, claim.incarnation == incarnation {
                if claim.run == self.run || held == claim.fence {
                    claim.view = max(claim.view, view.number)
                    claim.run = self.run
                    self.claims[slot] = claim
                    return claim.fence
                }
            } else if claim.view > view.number {
                throw EngineError(.fenced, "slot \(slot) was claimed under view \(claim.view)")
            } else {
                number += 1
            }
        }
        // At least the view's number: where a claim was lost, its number is not given to another owner again.
        let fence = Fence(generation: view.generation, number: max(number, view.number))
        self.claims[slot] = Claim(
            fence: fence, view: view.number, node: node, incarnation: incarnation, run: self.run)
        return fence
    }

    /// The fence that writes to `slot` must carry; nil where nobody claimed it.
    package func fence(of slot: Slot) -> Fence? { self.claims[slot]?.fence }

    func check(_ fence: Fence, slot: Slot) throws(EngineError) {
        guard self.claims[slot]?.fence == fence else {
            throw EngineError(.fenced, "fence \(fence) of slot \(slot) is not the current one")
        }
        guard self.claims[slot]?.run == self.run else {
            throw EngineError(.fenced, "slot \(slot) was not claimed since the engine was restarted")
        }
    }
}
