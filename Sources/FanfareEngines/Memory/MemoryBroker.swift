package import FanfareCore
package import FanfareModel
import Synchronization

/// A node's link to a `MemoryHub`. Nothing is kept across the process's end; a single node without Redis runs on it.
/// Calls never suspend; deliveries run on `loop`.
package final class MemoryBroker: Broker {
    private let node: NodeID
    private let hub: MemoryHub
    private let mailbox: DeliveryMailbox
    private let rooms = Mutex<Set<String>>([])

    /// - Parameter deliveryByteLimit: what may wait for the loop; above it the waiting deliveries are dropped and the
    ///   receiver gets `linkLost` and `linkRestored`.
    package init(node: NodeID, hub: MemoryHub, loop: any Loop, deliveryByteLimit: Int = 64 << 20) {
        self.node = node
        self.hub = hub
        self.mailbox = DeliveryMailbox(loop: loop, byteLimit: deliveryByteLimit)
    }

    package func start(receiver: any BrokerReceiver) {
        self.mailbox.open(receiver)
        self.hub.attach(self.node, self.mailbox)
    }

    package func stop() async {
        self.mailbox.close()
        let rooms = self.rooms.withLock { rooms in
            defer { rooms = [] }
            return rooms.sorted()
        }
        self.hub.detach(self.node, self.mailbox, rooms: rooms)
    }

    private func checkOpen() throws(EngineError) {
        guard self.mailbox.isOpen else { throw EngineError(.unavailable, "the broker is stopped") }
    }

    package func heartbeat(
        _ member: Member, lease: Duration, newGeneration: String, seen: ViewNumber?
    ) async throws(EngineError) -> View {
        try self.checkOpen()
        return try self.hub.heartbeat(member, lease: lease, newGeneration: newGeneration, seen: seen)
    }

    package func leave(_ member: Member) async throws(EngineError) {
        try self.checkOpen()
        self.hub.leave(member)
    }

    package func claim(
        _ slot: Slot, view: ViewNumber, node: NodeID, incarnation: String, held: Fence?
    ) async throws(EngineError) -> Fence {
        try self.checkOpen()
        return try self.hub.store { state, _ throws(EngineError) in
            try state.claim(slot, view: view, node: node, incarnation: incarnation, held: held)
        }
    }

    package func open(
        _ room: String, fence: Fence, newEpoch: String, retention: Retention
    ) async throws(EngineError) -> StoredRoom {
        try self.checkOpen()
        return try self.hub.store { state, now throws(EngineError) in
            try state.open(room, fence: fence, newEpoch: newEpoch, retention: retention, now: now)
        }
    }

    package func append(
        _ batch: [RoomAppend], slot: Slot, fence: Fence
    ) async throws(EngineError) -> [RoomAppendOutcome] {
        try self.checkOpen()
        return try self.hub.append(batch, slot: slot, fence: fence)
    }

    package func restore(
        _ name: String, to room: StoredRoom, from found: StreamPosition?, fence: Fence, retention: Retention
    ) async throws(EngineError) -> Bool {
        try self.checkOpen()
        return try self.hub.store { state, now throws(EngineError) in
            try state.restore(name, to: room, from: found, fence: fence, retention: retention, now: now)
        }
    }

    package func read(_ room: String, since: UInt64?, limit: Int) async throws(EngineError) -> StoredRoom? {
        try self.checkOpen()
        return try self.hub.store { state, now throws(EngineError) in
            state.read(room, since: since, limit: limit, now: now)
        }
    }

    package func removeHistory(_ room: String, fence: Fence) async throws(EngineError) {
        try self.checkOpen()
        try self.hub.store { state, now throws(EngineError) in
            try state.removeHistory(room, fence: fence, now: now)
        }
    }

    package func broadcast(_ batch: PublishedBatch, room: String) async throws(EngineError) {
        try self.checkOpen()
        self.hub.broadcast(batch, room: room)
    }

    package func subscribe(room: String) async throws(EngineError) {
        try self.checkOpen()
        self.rooms.withLock { rooms in
            rooms.insert(room)
            self.hub.subscribe(self.node, room: room)
        }
    }

    package func unsubscribe(room: String) {
        self.rooms.withLock { rooms in
            rooms.remove(room)
            self.hub.unsubscribe(self.node, room: room)
        }
    }

    package func send(_ message: Bytes, to node: NodeID) async throws(EngineError) -> Bool {
        try self.checkOpen()
        return self.hub.send(message, to: node)
    }

    package func sendToAll(_ message: Bytes) async throws(EngineError) {
        try self.checkOpen()
        self.hub.sendToAll(message)
    }

    package var health: BrokerHealth {
        let isOpen = self.mailbox.isOpen
        return BrokerHealth(commands: isOpen, subscriptions: isOpen, problem: isOpen ? nil : "stopped")
    }
}
