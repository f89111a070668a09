package import FanfareModel

/// Who owns which slot by one view.
package struct SlotTable: Sendable, Hashable {
    package struct Move: Sendable, Hashable {
        package let slot: Slot
        /// Nil where nobody owned it.
        package let from: NodeID?
        /// Nil where nobody owns it now.
        package let to: NodeID?
    }

    /// Nil before the first view.
    package let view: ViewNumber?
    /// The nodes that own slots, in the view's order.
    package let nodes: [NodeID]
    private let owners: [Int]

    /// Nobody owns anything: before the first view is known.
    package init() {
        self.view = nil
        self.nodes = []
        self.owners = []
    }

    package init(view: View) {
        let members = Ring.owners(in: view)
        self.view = view.number
        self.nodes = members.map(\.node)
        self.owners = Ring.assign(to: members)
    }

    /// Nil only where the view has no members.
    package func owner(of slot: Slot) -> NodeID? {
        self.owners.isEmpty ? nil : self.nodes[self.owners[slot.index]]
    }

    package func owner(of channel: Channel) -> NodeID? { self.owner(of: channel.slot) }
    package func owner(of shard: Shard) -> NodeID? { self.owner(of: shard.slot) }

    /// Ascending.
    package func slots(of node: NodeID) -> [Slot] {
        guard let index = self.nodes.firstIndex(of: node) else { return [] }
        return self.owners.indices.filter { self.owners[$0] == index }.map(Slot.init(index:))
    }

    /// How many slots each node owns; nodes with none are in it too.
    package var slotCounts: [NodeID: Int] {
        var counts = Array(repeating: 0, count: self.nodes.count)
        for owner in self.owners { counts[owner] += 1 }
        return Dictionary(zip(self.nodes, counts)) { $0 + $1 }
    }

    /// The slots whose owner differs, ascending.
    package static func moved(from old: SlotTable, to new: SlotTable) -> [Move] {
        Slot.all.compactMap { slot in
            let from = old.owner(of: slot)
            let to = new.owner(of: slot)
            return from == to ? nil : Move(slot: slot, from: from, to: to)
        }
    }
}
