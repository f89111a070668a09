import FanfareCore
import FanfareEngines
import FanfareModel
import Logging

/// Runs the durable fan-out of this node: relays the outbox into jobs, and lets the shards that this node owns work theirs,
/// a few at a time. Wake-ups make it fast; polling makes it certain.
package actor Fanout {
    package struct Limits: Sendable, Hashable {
        /// Shards that work at once on this node; each holds a database connection while it writes.
        package var width = 3
        /// Inbox rows of one transaction.
        package var chunkSize = 5000
        /// Outbox rows relayed in one transaction.
        package var relaySize = 100
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
    private let makeShard: @Sendable (Shard) -> FanoutShard

    private var shards: [Shard: FanoutShard] = [:]
    /// Shards that may have work, in the order in which that was learnt.
    private var due: [Shard] = []
    private var working: Set<Shard> = []
    private var isRelaying = false
    private var wantsRelay = false
    private var isStopped = false
    private var isPolling = false
    private var backoff = Backoff(base: .milliseconds(200), cap: .seconds(5))
    private var failures = 0
    private var pausedUntil: MonotonicInstant?
    private let random: @Sendable () -> UInt64

    init(
        loop: any Loop, store: any Store, map: ClusterMap, peers: Peers, limits: Limits,
        random: @escaping @Sendable () -> UInt64, logger: Logger, metrics: FabricMetrics,
        makeShard: @escaping @Sendable (Shard) -> FanoutShard
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
        self.makeShard = makeShard
    }

    func start() { self.poll() }

    func stop() { self.isStopped = true }

    /// An event was accepted on this node.
    func eventAccepted() { self.relaySoon() }

    /// These shards have jobs.
    func wake(_ shards: [Shard]) {
        for shard in shards where self.map.owns(shard.slot) && !self.due.contains(shard) { self.due.append(shard) }
        self.workMore()
    }

    private func poll() {
        guard !self.isStopped else { return }
        self.relaySoon()
        if !self.isPolling {
            self.isPolling = true
            self.loop.task { await self.findWork() }
        }
        // Nodes that started together do not ask together.
        let jitter = Int64(self.random() % 1000)
        self.loop.schedule(after: self.limits.pollInterval + .nanoseconds(jitter * 100_000)) {
            self.onThisLoop { $0.poll() }
        }
    }

    private func findWork() async {
        let owned = (0..<Shard.count).map(Shard.init(index:)).filter { self.map.owns($0.slot) }
        if !owned.isEmpty, let due = try? await self.store.shardsWithWork(owned) { self.wake(due) }
        self.isPolling = false
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

    // MARK: Shards

    private func workMore() {
        guard !self.isStopped else { return }
        if let pausedUntil = self.pausedUntil, self.loop.now < pausedUntil { return }
        while self.working.count < self.limits.width,
            let index = self.due.firstIndex(where: { !self.working.contains($0) })
        {
            let shard = self.due.remove(at: index)
            guard self.map.owns(shard.slot) else { continue }
            self.working.insert(shard)
            self.loop.task { await self.work(shard) }
        }
    }

    private func work(_ shard: Shard) async {
        let actor = self.shards[shard] ?? self.makeShard(shard)
        self.shards[shard] = actor
        do throws(EngineError) {
            try await actor.work()
            self.failures = 0
        } catch {
            // Polling finds the shard again; a database in trouble is not asked more often for it.
            self.metrics.fanoutFailures.increment()
            self.logger.debug("a fan-out shard waits", metadata: ["shard": "\(shard)", "error": "\(error)"])
            let pause = self.backoff.delay(attempt: self.failures, random: self.random())
            self.failures += 1
            self.pausedUntil = self.loop.now + pause
        }
        self.working.remove(shard)
        self.workMore()
    }
}
