import FanfareCore
package import FanfareEngines
package import FanfareModel

/// One node's link to the simulated engine: requests and deliveries keep their order on it, as on a socket.
package final class SimulatedBroker: Broker, @unchecked Sendable {
    // Safe: used on the simulation's thread alone.
    package let node: NodeID
    let loop: SimulatedLoop
    private unowned let engine: SimulatedEngine
    private(set) var receiver: (any BrokerReceiver)?
    private var lastSend: MonotonicInstant
    private var lastDelivery: MonotonicInstant
    private var hasMissedSomething = false

    init(node: NodeID, loop: SimulatedLoop, engine: SimulatedEngine) {
        self.node = node
        self.loop = loop
        self.engine = engine
        self.lastSend = loop.now
        self.lastDelivery = loop.now
    }

    package var health: BrokerHealth { BrokerHealth(commands: true, subscriptions: true) }

    func send(_ body: @escaping @Sendable () -> Void) {
        self.lastSend = max(self.lastSend, self.loop.now + self.engine.delay())
        self.engine.loop.schedule(at: self.lastSend, body)
    }

    func deliver(_ body: @escaping @Sendable () -> Void) {
        self.lastDelivery = max(self.lastDelivery, self.loop.now + self.engine.delay())
        self.loop.schedule(at: self.lastDelivery, body)
    }

    func missedSomething() { self.hasMissedSomething = true }

    func healed() {
        guard self.hasMissedSomething else { return }
        self.hasMissedSomething = false
        self.deliver { self.receiver?.linkRestored() }
    }

    package func start(receiver: any BrokerReceiver) { self.receiver = receiver }
    package func stop() async { self.receiver = nil }

    package func heartbeat(
        _ member: Member, lease: Duration, newGeneration: String, seen: ViewNumber?
    ) async throws(EngineError) -> View {
        let engine = self.engine
        return try await engine.exchange(self) { state in
            Result { () throws(EngineError) in
                let (view, changed) = try state.heartbeat(
                    member, lease: lease, newGeneration: newGeneration, seen: seen, now: engine.loop.now)
                if changed { engine.announceMembership() }
                return view
            }
        }
    }

    package func leave(_ member: Member) async throws(EngineError) {
        let engine = self.engine
        try await engine.exchange(self) { state in
            if state.leave(member) { engine.announceMembership() }
            return .success(())
        }
    }

    package func claim(
        _ slot: Slot, view: ViewNumber, node: NodeID, incarnation: String, held: Fence?
    ) async throws(EngineError) -> Fence {
        try await self.engine.exchange(self) { state in
            Result { () throws(EngineError) in
                try state.claim(slot, view: view, node: node, incarnation: incarnation, held: held)
            }
        }
    }

    package func open(
        _ room: String, fence: Fence, newEpoch: String, retention: Retention
    ) async throws(EngineError) -> StoredRoom {
        let engine = self.engine
        return try await engine.exchange(self) { state in
            Result { () throws(EngineError) in
                try state.open(room, fence: fence, newEpoch: newEpoch, retention: retention, now: engine.loop.now)
            }
        }
    }

    package func append(
        _ batch: [RoomAppend], slot: Slot, fence: Fence
    ) async throws(EngineError) -> [RoomAppendOutcome] {
        let engine = self.engine
        let node = self.node
        return try await engine.exchange(self) { state in
            Result { () throws(EngineError) in
                let (outcomes, published) = try state.append(batch, slot: slot, fence: fence, now: engine.loop.now)
                engine.onAppend(node, slot, fence, published)
                for one in published { engine.publish(one.batch, room: one.room) }
                return outcomes
            }
        }
    }

    package func restore(
        _ name: String, to room: StoredRoom, from found: StreamPosition?, fence: Fence, retention: Retention
    ) async throws(EngineError) -> Bool {
        let engine = self.engine
        return try await engine.exchange(self) { state in
            Result { () throws(EngineError) in
                let done = try state.restore(
                    name, to: room, from: found, fence: fence, retention: retention, now: engine.loop.now)
                if done { engine.onRestore(name, room) }
                return done
            }
        }
    }

    package func read(_ room: String, since: UInt64?, limit: Int) async throws(EngineError) -> StoredRoom? {
        let engine = self.engine
        return try await engine.exchange(self) { state in
            .success(state.read(room, since: since, limit: limit, now: engine.loop.now))
        }
    }

    package func removeHistory(_ room: String, fence: Fence) async throws(EngineError) {
        let engine = self.engine
        try await engine.exchange(self) { state in
            Result { () throws(EngineError) in try state.removeHistory(room, fence: fence, now: engine.loop.now) }
        }
    }

    package func broadcast(_ batch: PublishedBatch, room: String) async throws(EngineError) {
        let engine = self.engine
        try await engine.exchange(self) { _ in
            engine.publish(batch, room: room)
            return .success(())
        }
    }

    package func subscribe(room: String) async throws(EngineError) {
        let (engine, node) = (self.engine, self.node)
        try await engine.exchange(self) { _ in
            engine.subscribe(node, room)
            return .success(())
        }
    }

    package func unsubscribe(room: String) {
        let (engine, node) = (self.engine, self.node)
        self.send { engine.unsubscribe(node, room) }
    }

    package func send(_ message: Bytes, to node: NodeID) async throws(EngineError) -> Bool {
        let engine = self.engine
        return try await engine.exchange(self) { _ in .success(engine.send(message, to: node)) }
    }

    package func sendToAll(_ message: Bytes) async throws(EngineError) {
        let engine = self.engine
        try await engine.exchange(self) { _ in
            engine.sendToAll(message)
            return .success(())
        }
    }
}

extension Result where Failure == EngineError {
    init(_ body: () throws(EngineError) -> Success) {
        do throws(EngineError) {
            self = .success(try body())
        } catch {
            self = .failure(error)
        }
    }
}
