import FanfareCore
import FanfareEngines
package import FanfareFabric
package import FanfareModel
import Logging

/// A node of the simulation, until it crashes.
package final class SimulatedNode: @unchecked Sendable {
    // Safe: used on the simulation's thread alone.
    package let id: NodeID
    package let node: Node
    let loops: [SimulatedLoop]
    package fileprivate(set) var isUp = true
    fileprivate(set) var isPaused = false
    fileprivate(set) var isDraining = false

    fileprivate init(id: NodeID, node: Node, loops: [SimulatedLoop]) {
        self.id = id
        self.node = node
        self.loops = loops
    }
}

/// A whole cluster in one process: real nodes on simulated loops and a simulated engine, clients, publishers, faults.
package final class SimulatedCluster: @unchecked Sendable {
    // Safe: used on the simulation's thread alone.
    package struct Plan: Sendable {
        package var nodes = 3
        package var rooms = 4
        package var clients = 6
        /// Simulated time of the hurt.
        package var hurt: Duration = .seconds(6)
        package var publications = 150

        package init() {}
    }

    package let seed: UInt64
    package let scheduler: SimulatedScheduler
    package let engine: SimulatedEngine
    package let checker = ClusterChecker()
    private let plan: Plan
    private var nodes: [NodeID: SimulatedNode] = [:]
    private var clients: [SimulatedClient] = []
    private let outside: SimulatedLoop
    private let publisher: SimulatedPublisher
    private var edgeLimits = EdgeHub.Limits()
    package private(set) var faultLog: [String] = []

    package init(seed: UInt64, plan: Plan = Plan()) {
        self.seed = seed
        self.plan = plan
        self.scheduler = SimulatedScheduler(seed: seed)
        self.engine = SimulatedEngine(scheduler: self.scheduler)
        self.outside = self.scheduler.makeLoop(name: "outside")
        self.publisher = SimulatedPublisher(loop: self.outside, checker: self.checker)
        let checker = self.checker
        self.engine.onAppend = { checker.appended(by: $0, slot: $1, fence: $2, $3) }
        self.engine.onRestore = { checker.restored($0, $1) }
    }

    private var rooms: [String] { (0..<self.plan.rooms).map { "room:\($0)" } }

    /// Hurts the cluster, heals it, and demands that everyone is brought up to date.
    /// - Returns: what was broken; empty where nothing was.
    package func run() -> [String] {
        let drawn = self.drawFaults()
        if drawn.batchLoss == nil { self.edgeLimits.checkInterval = .seconds(600) }
        for index in 0..<self.plan.nodes { self.boot(NodeID("n\(index)")) }
        _ = self.scheduler.run(for: .seconds(5)) {
            self.nodes.values.allSatisfy { $0.node.map.view?.members.count == self.plan.nodes }
        }
        for index in 0..<self.plan.clients {
            let count = 1 + Int(self.scheduler.random.next() % UInt64(self.plan.rooms))
            let rooms = Array(self.rooms.shuffled(using: &self.scheduler.random).prefix(count))
            let client = SimulatedClient(
                name: "c\(index)", rooms: rooms, loop: self.outside, checker: self.checker
            ) { [unowned self] in self.randomNode() }
            self.clients.append(client)
            client.connect()
        }
        self.engine.faults = drawn
        self.schedulePublications()
        self.scheduleAccidents()
        self.scheduleLeaving()
        _ = self.scheduler.run(for: self.plan.hurt) { !self.checker.violations.isEmpty }
        self.heal()
        // Where batches are lost silently, positions are compared now and then; all other losses are told.
        let patience: Duration = drawn.batchLoss == nil ? .seconds(40) : .seconds(120)
        let isDone = self.calmDown(for: patience)
        // Owners mend what the engine lost when they next write: one more publication in each room.
        self.publisher.expect(self.plan.rooms)
        for room in self.rooms {
            self.outside.execute {
                self.publisher.publish("\"last of \(room)\"", room: room) { [unowned self] in self.randomNode() }
            }
        }
        if isDone { _ = self.calmDown(for: patience) }
        self.checker.judge(self.engine.state, now: self.scheduler.now)
        return self.checker.violations
    }

    /// - Returns: whether all publications were acknowledged and everyone was brought up to date.
    private func calmDown(for patience: Duration) -> Bool {
        let isCalm = self.scheduler.run(for: patience) {
            !self.checker.violations.isEmpty
                || self.publisher.isDone && self.clients.allSatisfy { $0.isUpToDate() }
        }
        if !isCalm {
            self.checker.violated("not calm \(patience) after the last fault; publisher: \(self.publisher.describe())")
            for client in self.clients where !client.isUpToDate() { self.checker.violated(client.describe()) }
        }
        return isCalm && self.checker.violations.isEmpty
    }

    // MARK: Nodes

    private func boot(_ id: NodeID) {
        let loops = (0..<2).map { self.scheduler.makeLoop(name: "\(id).\($0)") }
        var logger = Logger(label: "simulated") { _ in SwiftLogNoOpLogHandler() }
        logger.logLevel = .critical
        let broker = self.engine.makeBroker(for: id, loop: loops[0])
        let node = Node(
            NodeConfiguration(name: id, edge: self.edgeLimits), loops: loops, broker: broker, store: nil,
            tokens: NoTokens(),
            surroundings: self.scheduler.surroundings(), logger: logger
        ) { _, _, _, _ throws(FanfareError) in throw .methodNotFound }
        self.nodes[id] = SimulatedNode(id: id, node: node, loops: loops)
        loops[0].execute { node.start() }
    }

    private func randomNode() -> SimulatedNode? {
        let up = self.nodes.values.filter { $0.isUp && !$0.isPaused }.sorted { $0.id < $1.id }
        return up.randomElement(using: &self.scheduler.random)
    }

    private func crash(_ node: SimulatedNode) {
        guard node.isUp else { return }
        self.faultLog.append("crash \(node.id)")
        node.isUp = false
        for loop in node.loops { loop.kill() }
        self.engine.forget(node.id)
        self.engine.partitioned.remove(node.id)
        for client in self.clients where client.node === node { client.lost(nil) }
    }

    /// The node leaves in peace; its process ends when it has.
    private func drain(_ node: SimulatedNode, then boot: @escaping @Sendable () -> Void) {
        guard node.isUp, !node.isDraining else { return }
        self.faultLog.append("drain \(node.id)")
        node.isDraining = true
        let caller = SimulatedCaller(loop: node.loops[0])
        node.loops[0].execute {
            caller.drain(node.node) {
                self.outside.execute {
                    guard node.isUp else { return }
                    node.isUp = false
                    for loop in node.loops { loop.kill() }
                    self.engine.forget(node.id)
                    self.engine.partitioned.remove(node.id)
                    for client in self.clients where client.node === node { client.lost(nil) }
                    boot()
                }
            }
        }
    }

    /// The engine loses what it did in the last `age`, or everything.
    private func loseState(_ age: Duration, everything: Bool) {
        let snapshot = self.engine.state
        self.outside.schedule(after: age) {
            self.faultLog.append(everything ? "wipe" : "rollback by \(age)")
            self.checker.engineLost()
            self.engine.restart(with: everything ? nil : snapshot)
        }
    }

    private func pause(_ node: SimulatedNode, for duration: Duration) {
        guard node.isUp, !node.isPaused else { return }
        self.faultLog.append("pause \(node.id) for \(duration)")
        node.isPaused = true
        for loop in node.loops { loop.isPaused = true }
        self.outside.schedule(after: duration) { self.resume(node) }
    }

    private func resume(_ node: SimulatedNode) {
        node.isPaused = false
        for loop in node.loops { loop.isPaused = false }
    }

    // MARK: Faults

    private func drawFaults() -> SimulatedEngine.Faults {
        var faults = SimulatedEngine.Faults()
        func drawn(_ rate: Int) -> Int? { self.scheduler.random.oneIn(2) ? rate : nil }
        faults.requestLoss = drawn(40)
        faults.answerLoss = drawn(40)
        faults.batchLoss = drawn(20)
        faults.messageLoss = drawn(20)
        faults.duplication = drawn(10)
        faults.delay = [100, 1000, 20_000, 200_000][Int(self.scheduler.random.next() % 4)]
        return faults
    }

    private func scheduleAccidents() {
        let count = Int(self.scheduler.random.next() % 5)
        let span = self.plan.hurt.nanoseconds / 1000
        for _ in 0..<count {
            let when = self.scheduler.random.duration(0...span)
            let length = self.scheduler.random.duration(100_000...6_000_000)
            let kind = self.scheduler.random.next() % 12
            let age = self.scheduler.random.duration(1000...1_500_000)
            self.outside.schedule(after: when) {
                guard let node = self.randomNode() else { return }
                switch kind {
                case 0, 1, 2:
                    // One that is being drained boots again by itself, and would be there twice.
                    guard !node.isDraining else { return }
                    self.crash(node)
                    self.outside.schedule(after: length) { self.boot(node.id) }
                case 3, 4, 5: self.pause(node, for: length)
                case 6, 7: self.drain(node) { self.outside.schedule(after: length / 4) { self.boot(node.id) } }
                case 8: self.loseState(age, everything: false)
                case 9: self.loseState(age, everything: true)
                default:
                    self.faultLog.append("partition \(node.id) for \(length)")
                    self.engine.partitioned.insert(node.id)
                    self.outside.schedule(after: length) { self.engine.reconnect(node.id) }
                }
            }
        }
    }

    private func scheduleLeaving() {
        let span = self.plan.hurt.nanoseconds / 1000
        for client in self.clients {
            let room = self.rooms[Int(self.scheduler.random.next() % UInt64(self.plan.rooms))]
            self.outside.schedule(after: self.scheduler.random.duration(0...span)) { client.leave(room) }
        }
    }

    private func heal() {
        self.engine.heal()
        for node in self.nodes.values where node.isPaused { self.resume(node) }
    }

    // MARK: Publications

    private func schedulePublications() {
        let span = self.plan.hurt.nanoseconds / 1000
        self.publisher.expect(self.plan.publications)
        for index in 0..<self.plan.publications {
            let room = self.rooms[Int(self.scheduler.random.next() % UInt64(self.plan.rooms))]
            let when = self.scheduler.random.duration(0...(span + 1_000_000))
            self.outside.schedule(after: when) {
                self.publisher.publish("\"p\(index)\"", room: room) { [unowned self] in self.randomNode() }
            }
        }
    }
}

/// Publishes until it is told that the publication is in the log: what a server with an idempotency key does.
final class SimulatedPublisher: @unchecked Sendable {
    // Safe: used on the simulation's thread alone.
    private let loop: SimulatedLoop
    private let checker: ClusterChecker
    private var open: Set<String> = []
    private var expected = 0
    private var done = 0

    init(loop: SimulatedLoop, checker: ClusterChecker) {
        self.loop = loop
        self.checker = checker
    }

    var isDone: Bool { self.done == self.expected }
    func describe() -> String { "\(self.done) of \(self.expected) done, open: \(self.open.sorted().prefix(5))" }
    func expect(_ count: Int) { self.expected += count }

    func publish(_ payload: String, room: String, through findNode: @escaping @Sendable () -> SimulatedNode?) {
        self.open.insert(payload)
        self.attempt(payload, room, findNode)
    }

    private func attempt(_ payload: String, _ room: String, _ findNode: @escaping @Sendable () -> SimulatedNode?) {
        guard self.open.contains(payload) else { return }
        guard let node = findNode(), let channel = try? Channel(room) else {
            self.loop.schedule(after: .milliseconds(100)) { self.attempt(payload, room, findNode) }
            return
        }
        // A node that dies never answers: ask another one after a while, with the same key.
        let patience = self.loop.schedule(after: .seconds(8)) { self.attempt(payload, room, findNode) }
        let order = PublishOrder(channel: channel, data: Bytes(payload.utf8), idempotencyKey: payload)
        let caller = SimulatedCaller(loop: node.loops[0])
        node.loops[0].execute {
            caller.publish(order, on: node.node) { result in
                self.loop.execute {
                    patience.cancel()
                    guard self.open.contains(payload) else { return }
                    switch result {
                    case .success(let position):
                        self.open.remove(payload)
                        self.done += 1
                        if let position { self.checker.acknowledged(payload, room: room, position) }
                    case .failure(let error):
                        if !error.isTemporary { self.checker.violated("publishing \(payload): \(error)") }
                        self.loop.schedule(after: .milliseconds(100)) { self.attempt(payload, room, findNode) }
                    }
                }
            }
        }
    }
}

/// Stands where the server API would: asks the node from one of its loops.
actor SimulatedCaller {
    nonisolated let unownedExecutor: UnownedSerialExecutor
    private let loop: SimulatedLoop

    init(loop: SimulatedLoop) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.loop = loop
    }

    nonisolated func publish(
        _ order: PublishOrder, on node: Node,
        _ reply: @escaping @Sendable (Result<StreamPosition?, FanfareError>) -> Void
    ) {
        self.onThisLoop { $0.begin(order, node, reply) }
    }

    nonisolated func drain(_ node: Node, _ done: @escaping @Sendable () -> Void) {
        self.onThisLoop { $0.beginDrain(node, done) }
    }

    private func beginDrain(_ node: Node, _ done: @escaping @Sendable () -> Void) {
        self.loop.task {
            await node.drain(within: .seconds(1))
            done()
            _ = self.loop
        }
    }

    private func begin(
        _ order: PublishOrder, _ node: Node,
        _ reply: @escaping @Sendable (Result<StreamPosition?, FanfareError>) -> Void
    ) {
        self.loop.task {
            do throws(FanfareError) {
                reply(.success(try await node.publish(order, by: .server)))
            } catch {
                reply(.failure(error))
            }
            _ = self.loop
        }
    }
}

/// Everybody is anonymous.
struct NoTokens: TokenVerifier {
    func cachedConnection(_ token: String) -> VerifiedToken? { nil }
    func verifyConnection(_ token: String) async throws(TokenFailure) -> VerifiedToken { throw .invalid }
    func verifySubscription(_ token: String) async throws(TokenFailure) -> VerifiedSubscription { throw .invalid }
}
