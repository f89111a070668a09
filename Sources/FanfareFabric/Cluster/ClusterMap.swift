import FanfareCore
package import FanfareModel
import Synchronization

/// Who owns what, as this node knows it: the last view and the slots that follow from it. Read from anywhere, written by
/// `Membership` alone.
package final class ClusterMap: Sendable {
    private struct State {
        var view: View?
        var table: SlotTable?
        /// Until when this node may act as an owner, by its own clock.
        var leaseEnds: MonotonicInstant?
        var tenure: UInt64 = 0
        var bearsName = false
        var nameConflict: String?
    }

    package let node: NodeID
    package let incarnation: String
    private let state = Mutex(State())

    package init(node: NodeID, incarnation: String) {
        self.node = node
        self.incarnation = incarnation
    }

    package var view: View? { self.state.withLock { $0.view } }

    package func owner(of slot: Slot) -> NodeID? { self.state.withLock { $0.table?.owner(of: slot) } }

    /// Whether this node owns the slot by its view. Only the fence in the engine makes that certain.
    package func owns(_ slot: Slot) -> Bool { self.owner(of: slot) == self.node }

    package func ownedSlots() -> [Slot] {
        self.state.withLock { state in
            guard let table = state.table else { return [] }
            return Slot.all.filter { table.owner(of: $0) == self.node }
        }
    }

    package func slotCounts() -> [NodeID: Int] {
        self.state.withLock { state in
            guard let table = state.table else { return [:] }
            return Slot.all.reduce(into: [:]) { counts, slot in
                if let owner = table.owner(of: slot) { counts[owner, default: 0] += 1 }
            }
        }
    }

    /// Whether the lease was renewed recently enough to act as an owner.
    package func holdsLease(at now: MonotonicInstant) -> Bool {
        self.state.withLock { $0.leaseEnds.map { now < $0 } ?? false }
    }

    /// Grows whenever another node may have owned slots of this one without its notice: a view was missed, or a generation
    /// began while the lease had lapsed. What an owner remembers from before is no proof of what was written last.
    ///
    /// A lease that lapsed is no reason by itself: whoever counts this node out makes a view, and so does its return.
    package var tenure: UInt64 { self.state.withLock { $0.tenure } }

    /// Whether the engine knows this very process under its name. Until then, and where another process has the name,
    /// what is sent to the name is not meant for this one.
    package var bearsName: Bool { self.state.withLock { $0.bearsName } }

    /// Another process runs under this node's name: where, for operators.
    package var nameConflict: String? { self.state.withLock { $0.nameConflict } }

    /// The name is another process's: this one owns nothing, and knows nothing of who does.
    func lostName(_ conflict: String) {
        self.state.withLock { state in
            state.bearsName = false
            state.nameConflict = conflict
            state.view = nil
            state.table = nil
            state.leaseEnds = nil
        }
    }

    /// - Parameter now: when the answer came.
    /// - Returns: whether the view is a new one.
    func renewed(_ view: View, leaseEnds: MonotonicInstant, at now: MonotonicInstant) -> Bool {
        self.state.withLock { state in
            let hasLapsed = state.leaseEnds.map { $0 <= now } ?? true
            let hasMissedView =
                state.view.map { known in
                    known.number.generation == view.number.generation
                        ? known.number.number + 1 < view.number.number : hasLapsed
                } ?? true
            if hasMissedView { state.tenure += 1 }
            state.leaseEnds = leaseEnds
            state.bearsName = true
            state.nameConflict = nil
            guard state.view?.number != view.number else { return false }
            // A late answer must not bring an older view of the same generation back.
            if let known = state.view, known.number.generation == view.number.generation,
                known.number.number > view.number.number
            {
                return false
            }
            state.view = view
            state.table = SlotTable(view: view)
            return true
        }
    }
}
