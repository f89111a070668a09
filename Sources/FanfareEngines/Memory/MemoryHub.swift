package import FanfareModel
import Synchronization

/// The engine that in-memory brokers share: brokers on one hub are a cluster in one process.
package final class MemoryHub: Sendable {
    private struct Contents {
        var state: MemoryBrokerState
        var mailboxes: [NodeID: DeliveryMailbox] = [:]
        /// The nodes that subscribe to a room, in ascending order.
        var subscribers: [String: [NodeID]] = [:]
    }

    private let contents: Mutex<Contents>
    private let clock: @Sendable () -> MonotonicInstant

    /// - Parameter clock: the engine's own; usually a loop's `now`.
    package init(
        limits: MemoryBrokerState.Limits = .init(), clock: @escaping @Sendable () -> MonotonicInstant
    ) {
        self.contents = Mutex(Contents(state: MemoryBrokerState(limits: limits)))
        self.clock = clock
    }

    /// Reads or changes what is stored. Tells nobody: for tests and simulated faults.
    package func withState<Result: Sendable>(_ body: (inout MemoryBrokerState) -> Result) -> Result {
        self.contents.withLock { body(&$0.state) }
    }

    // MARK: What brokers call. Mailboxes are filled under the lock, so that all nodes see one order.

    func attach(_ node: NodeID, _ mailbox: DeliveryMailbox) {
        self.contents.withLock { $0.mailboxes[node] = mailbox }
    }

    func detach(_ node: NodeID, _ mailbox: DeliveryMailbox, rooms: [String]) {
        self.contents.withLock { contents in
            // A successor of the same name may have taken the place.
            guard contents.mailboxes[node] === mailbox else { return }
            contents.mailboxes[node] = nil
            for room in rooms { Self.remove(node, room, &contents) }
        }
    }

    func subscribe(_ node: NodeID, room: String) {
        self.contents.withLock { contents in
            var nodes = contents.subscribers[room] ?? []
            guard !nodes.contains(node) else { return }
            nodes.insert(node, at: nodes.firstIndex { $0 > node } ?? nodes.endIndex)
            contents.subscribers[room] = nodes
        }
    }

    func unsubscribe(_ node: NodeID, room: String) { self.contents.withLock { Self.remove(node, room, &$0) } }

    private static func remove(_ node: NodeID, _ room: String, _ contents: inout Contents) {
        contents.subscribers[room]?.removeAll { $0 == node }
        if contents.subscribers[room]?.isEmpty == true { contents.subscribers[room] = nil }
    }

    func heartbeat(
        _ member: Member, lease: Duration, newGeneration: String, seen: ViewNumber?
    ) throws(EngineError) -> View {
        try self.contents.withLock { contents throws(EngineError) in
            let (view, changed) = try contents.state.heartbeat(
                member, lease: lease, newGeneration: newGeneration, seen: seen, now: self.clock())
            if changed { Self.announceMembership(contents) }
            return view
        }
    }

    func leave(_ member: Member) {
        self.contents.withLock { contents in
            if contents.state.leave(member) { Self.announceMembership(contents) }
        }
    }

    private static func announceMembership(_ contents: Contents) {
        for (_, mailbox) in contents.mailboxes.sorted(by: { $0.key < $1.key }) { mailbox.put(.membershipChanged) }
    }

    func append(
        _ batch: [RoomAppend], slot: Slot, fence: Fence
    ) throws(EngineError) -> [RoomAppendOutcome] {
        try self.contents.withLock { contents throws(EngineError) in
            let (outcomes, published) = try contents.state.append(batch, slot: slot, fence: fence, now: self.clock())
            for publication in published { Self.deliver(publication.batch, room: publication.room, contents) }
            return outcomes
        }
    }

    func broadcast(_ batch: PublishedBatch, room: String) {
        self.contents.withLock { Self.deliver(batch, room: room, $0) }
    }

    private static func deliver(_ batch: PublishedBatch, room: String, _ contents: Contents) {
        for node in contents.subscribers[room] ?? [] {
            contents.mailboxes[node]?.put(.publications(batch, room: room))
        }
    }

    func send(_ message: Bytes, to node: NodeID) -> Bool {
        self.contents.withLock { contents in
            guard let mailbox = contents.mailboxes[node] else { return false }
            mailbox.put(.message(message))
            return true
        }
    }

    func sendToAll(_ message: Bytes) {
        self.contents.withLock { contents in
            for (_, mailbox) in contents.mailboxes.sorted(by: { $0.key < $1.key }) { mailbox.put(.message(message)) }
        }
    }

    /// A call that delivers nothing.
    func store<Result: Sendable>(
        _ body: (inout MemoryBrokerState, MonotonicInstant) throws(EngineError) -> Result
    ) throws(EngineError) -> Result {
        try self.contents.withLock { contents throws(EngineError) in try body(&contents.state, self.clock()) }
    }
}
