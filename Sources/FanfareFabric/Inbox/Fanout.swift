import FanfareCore
import FanfareEngines
import FanfareModel
import Logging

/// Runs the durable fan-out of this node: relays the outbox into the log of events, and lets the workers of the shards that
/// this node owns take them up. Wake-ups make it fast; polling makes it certain.
package actor Fanout {
    package struct Limits: Sendable, Hashable {
        /// Workers of this node: each has a part of its shards, and holds a database connection while it writes.
        package var workers = 2
        /// Inbox rows of one transaction, about: at the least, and at the most.
        package var batchSize = 500...10_000
        /// What a transaction should take: it is given as many rows.
        package var batchTime: Duration = .milliseconds(60)
        /// Outbox rows relayed in one transaction.
        package var relaySize = 500
        package var pollInterval: Duration = .milliseconds(500)

        package init() {}
    }

    package nonisolated let unownedExecutor: UnownedSerialExecutor
    private let loop: any Loop
    private let store: any Store
    private let map: ClusterMap
    private let peers: Peers
    private let limits: Limits
    private let logger: Logger
    private let metrics: FabricMetrics
    private let workers: [FanoutWorker]

    /// Workers that may have something to do, and those that are at it.
    private var due: Set<Int> = []
    private var working: Set<Int> = []
    private var isRelaying = false
    private var wantsRelay = false
    private var isStopped = false
    private var backoff = Backoff(base: .milliseconds(200), cap: .seconds(5))
    private var failures = 0
    private var pausedUntil: MonotonicInstant?
    private let random: @Sendable () -> UInt64

    init(
        loop: any Loop, store: any Store, map: ClusterMap, peers: Peers, limits: Limits,
        random: @escaping @Sendable () -> UInt64, logger: Logger, metrics: FabricMetrics,
        makeWorker: (_ index: Int, _ shards: [Shard]) -> FanoutWorker
    ) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.loop = loop
        self.store = store
        self.map = map
        self.peers = peers
        self.limits = limits
        self.random = random
        self.logger = logger
        self.metrics = metrics
        let count = max(1, limits.workers)
        self.workers = (0..<count).map { index in
            makeWorker(index, stride(from: index, to: Shard.count, by: count).map(Shard.init(index:)))
        }
    }

    func start() { self.poll() }

    func stop() async {
        self.isStopped = true
        for worker in self.workers { await worker.stop() }
    }

    /// An event was accepted on this node.
    func eventAccepted() { self.relaySoon() }

    /// These shards have something to do.
    func wake(_ shards: [Shard]) {
        for shard in shards where self.map.owns(shard.slot) { self.due.insert(shard.index % self.workers.count) }
        self.workMore()
    }

    private func poll() {
        guard !self.isStopped else { return }
        self.relaySoon()
        self.due.formUnion(self.workers.indices)
        self.workMore()
        // Nodes that started together do not ask together.
        let jitter = Int64(self.random() % 1000)
        self.loop.schedule(after: self.limits.pollInterval + .nanoseconds(jitter * 100_000)) {
            self.onThisLoop { $0.poll() }
        }
    }

    // MARK: Outbox

    private func relaySoon() {
        guard !self.isStopped else { return }
        guard !self.isRelaying else {
            self.wantsRelay = true
            return
        }
        self.isRelaying = true
        self.loop.task { await self.relay() }
    }

    private func relay() async {
        var hasMore = true
        while hasMore, !self.isStopped {
            do throws(EngineError) {
                let relay = try await self.store.relayOutbox(limit: self.limits.relaySize)
                hasMore = relay.hasMore
                self.wakeOwners(of: relay.shards)
            } catch {
                self.logger.debug("the outbox waits", metadata: ["error": "\(error)"])
                break
            }
        }
        self.isRelaying = false
        if self.wantsRelay {
            self.wantsRelay = false
            self.relaySoon()
        }
    }

    private func wakeOwners(of shards: [Shard]) {
        var others: [NodeID: [Shard]] = [:]
        for shard in shards {
            guard let owner = self.map.owner(of: shard.slot), owner != self.map.node else { continue }
            others[owner, default: []].append(shard)
        }
        for (node, shards) in others.sorted(by: { $0.key < $1.key }) {
            self.peers.tell(.wakeShards(shards), node: node)
        }
        self.wake(shards)
    }

    // MARK: Workers

    private func workMore() {
        guard !self.isStopped else { return }
        if let pausedUntil = self.pausedUntil, self.loop.now < pausedUntil { return }
        for index in self.due.subtracting(self.working).sorted() {
            self.due.remove(index)
            self.working.insert(index)
            self.loop.task { await self.work(index) }
        }
    }

    private func work(_ index: Int) async {
        do throws(EngineError) {
            try await self.workers[index].work()
            self.failures = 0
        } catch {
            // Polling comes back to it; a database in trouble is not asked more often for it.
            self.metrics.fanoutFailures.increment()
            self.logger.debug("the fan-out waits", metadata: ["worker": "\(index)", "error": "\(error)"])
            let pause = self.backoff.delay(attempt: self.failures, random: self.random())
            self.failures += 1
            self.pausedUntil = self.loop.now + pause
        }
        self.working.remove(index)
        self.workMore()
    }
}
