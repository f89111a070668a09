/// The number of a membership view. The generation is a random id made when the key space is found empty: a view from
/// before a wipe of Redis cannot pass for a current one.
package struct ViewNumber: Hashable, Sendable, CustomStringConvertible {
    package var generation: String
    package var number: UInt64

    package init(generation: String, number: UInt64) {
        self.generation = generation
        self.number = number
    }
    package var description: String { "\(self.number)@\(self.generation)" }
}

/// A number that grows with every change of a slot's owner: a write with an old fence is refused.
package struct Fence: Hashable, Sendable, CustomStringConvertible {
    package var generation: String
    package var number: UInt64

    package init(generation: String, number: UInt64) {
        self.generation = generation
        self.number = number
    }
    package var description: String { "\(self.number)@\(self.generation)" }
}

package struct Member: Hashable, Sendable {
    package enum State: String, Sendable, Hashable {
        case active
        /// Leaves in peace: owns no slots, admits nobody, still delivers.
        case draining
    }

    package var node: NodeID
    /// Random at each start of the process: tells a restarted node from its predecessor.
    package var incarnation: String
    /// The node's HTTP address, for operators.
    package var address: String
    /// Its share of the slots relative to the others; 1–100.
    package var weight: Int
    package var state: State

    package init(node: NodeID, incarnation: String, address: String, weight: Int = 1, state: State = .active) {
        self.node = node
        self.incarnation = incarnation
        self.address = address
        self.weight = weight
        self.state = state
    }
}

/// A numbered membership list. Members are sorted by node.
package struct View: Hashable, Sendable {
    package var number: ViewNumber
    package var members: [Member]

    package init(number: ViewNumber, members: [Member]) {
        self.number = number
        self.members = members.sorted { $0.node < $1.node }
    }

    package func member(_ node: NodeID) -> Member? { self.members.first { $0.node == node } }
}
