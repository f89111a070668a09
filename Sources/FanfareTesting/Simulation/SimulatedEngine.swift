import FanfareCore
package import FanfareEngines
package import FanfareModel

/// The engine behind all simulated brokers, and the network between it and the nodes, with the faults that a seed drew.
package final class SimulatedEngine: @unchecked Sendable {
    // Safe: used on the simulation's thread alone.

    /// Which faults may happen while the cluster is being hurt.
    package struct Faults: Sendable {
        /// One request in so many is lost on its way; its sender learns nothing for a while.
        package var requestLoss: Int?
        /// One answer in so many is lost: what was asked was done.
        package var answerLoss: Int?
        /// One room batch in so many is lost on its way to a node.
        package var batchLoss: Int?
        /// One node message in so many is lost.
        package var messageLoss: Int?
        /// One batch or message in so many arrives twice.
        package var duplication: Int?
        /// The longest delay on any way, in microseconds.
        package var delay: Int64 = 500

        package init() {}
    }

    package var state = MemoryBrokerState()
    package var faults: Faults?
    /// Nodes that cannot reach the engine, nor be reached.
    package var partitioned: Set<NodeID> = []
    package let loop: SimulatedLoop
    /// What brokers asked for so far.
    package private(set) var requests = 0
    private let scheduler: SimulatedScheduler
    private var brokers: [NodeID: SimulatedBroker] = [:]
    private var subscribers: [String: Set<NodeID>] = [:]
    /// Called for each accepted append, before anybody is told.
    package var onAppend: (NodeID, Slot, Fence, [MemoryBrokerState.Published]) -> Void = { _, _, _, _ in }

    /// Called for each room that an owner put into the engine, before anybody is told.
    package var onRestore: (String, StoredRoom) -> Void = { _, _ in }

    package init(scheduler: SimulatedScheduler) {
        self.scheduler = scheduler
        self.loop = scheduler.makeLoop(name: "engine")
    }

    package func makeBroker(for node: NodeID, loop: SimulatedLoop) -> SimulatedBroker {
        let broker = SimulatedBroker(node: node, loop: loop, engine: self)
        self.brokers[node] = broker
        return broker
    }

    package func forget(_ node: NodeID) {
        self.brokers[node] = nil
        for room in self.subscribers.keys { self.subscribers[room]?.remove(node) }
    }

    func delay() -> Duration {
        self.scheduler.random.duration(20...max(20, self.faults?.delay ?? 60))
    }

    func strikes(_ rate: Int?) -> Bool {
        guard let rate else { return false }
        return self.scheduler.random.oneIn(rate)
    }

    /// Carries a request to the engine, does it, carries the answer back.
    func exchange<Answer: Sendable>(
        _ broker: SimulatedBroker, _ work: @escaping @Sendable (inout MemoryBrokerState) -> Result<Answer, EngineError>
    ) async throws(EngineError) -> Answer {
        self.requests += 1
        return try await withCheckedContinuation {
            (continuation: CheckedContinuation<Result<Answer, EngineError>, Never>) in
            if self.partitioned.contains(broker.node) {
                broker.loop.schedule(after: .milliseconds(200)) {
                    continuation.resume(returning: .failure(EngineError(.unavailable, "partitioned")))
                }
                return
            }
            if self.strikes(self.faults?.requestLoss) {
                broker.loop.schedule(after: .milliseconds(500)) {
                    continuation.resume(returning: .failure(EngineError(.unknownOutcome, "request lost")))
                }
                return
            }
            broker.send {
                let result = work(&self.state)
                if self.partitioned.contains(broker.node) || self.strikes(self.faults?.answerLoss) {
                    broker.loop.schedule(after: .milliseconds(500)) {
                        continuation.resume(returning: .failure(EngineError(.unknownOutcome, "answer lost")))
                    }
                } else {
                    broker.deliver { continuation.resume(returning: result) }
                }
            }
        }.get()
    }

    // MARK: Messages

    func publish(_ batch: PublishedBatch, room: String) {
        for node in (self.subscribers[room] ?? []).sorted() {
            guard let broker = self.brokers[node], !self.partitioned.contains(node) else {
                self.brokers[node]?.missedSomething()
                continue
            }
            if self.strikes(self.faults?.batchLoss) { continue }
            let times = self.strikes(self.faults?.duplication) ? 2 : 1
            for _ in 0..<times { broker.deliver { broker.receiver?.received(batch, room: room) } }
        }
    }

    func send(_ message: Bytes, to node: NodeID) -> Bool {
        guard let broker = self.brokers[node] else { return false }
        guard !self.partitioned.contains(node) else {
            broker.missedSomething()
            return true
        }
        if self.strikes(self.faults?.messageLoss) { return true }
        let times = self.strikes(self.faults?.duplication) ? 2 : 1
        for _ in 0..<times { broker.deliver { broker.receiver?.received(message: message) } }
        return true
    }

    func announceMembership() {
        for (_, broker) in self.brokers.sorted(by: { $0.key < $1.key }) where !self.partitioned.contains(broker.node) {
            broker.deliver { broker.receiver?.membershipChanged() }
        }
    }

    func sendToAll(_ message: Bytes) {
        for node in self.brokers.keys.sorted() { _ = self.send(message, to: node) }
    }

    func subscribe(_ node: NodeID, _ room: String) { self.subscribers[room, default: []].insert(node) }
    func unsubscribe(_ node: NodeID, _ room: String) { self.subscribers[room]?.remove(node) }

    /// The engine comes back with what it had once, or with nothing. Links break and are made anew.
    package func restart(with snapshot: MemoryBrokerState?) {
        if let snapshot { self.state.rollBack(to: snapshot) } else { self.state.wipe() }
        for (node, broker) in self.brokers.sorted(by: { $0.key < $1.key }) {
            broker.missedSomething()
            if !self.partitioned.contains(node) { broker.healed() }
        }
    }

    /// One node's partition ends.
    package func reconnect(_ node: NodeID) {
        guard self.partitioned.remove(node) != nil else { return }
        self.brokers[node]?.healed()
    }

    /// All faults end: links are made anew, and nodes are told that they missed something.
    package func heal() {
        self.faults = nil
        self.partitioned = []
        for (_, broker) in self.brokers.sorted(by: { $0.key < $1.key }) { broker.healed() }
    }
}
