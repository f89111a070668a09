import FanfareCore
import FanfareModel
import Logging

/// A loop's users that came and went, in order.
struct OnlineChange: Sendable {
    enum Kind: Sendable {
        /// The user's first session on the loop.
        case joined
        /// One more session of a user on the loop.
        case again
        /// The user's last session on the loop is gone.
        case left
    }
    let kind: Kind
    let user: UserKey
    let shard: Shard
}

/// Tells the owners of the fan-out shards which users have sessions on this node: what comes and goes gathers for a few
/// milliseconds, one message per owner is under way at a time, and what is lost is repeated, or found by a digest.
///
/// Sessions of users who were not known hold their pushes until their announcement was taken and their inbox compared, so
/// that nothing falls between the two and no later push overtakes what is missing.
actor OnlineAnnouncer {
    nonisolated let unownedExecutor: UnownedSerialExecutor
    nonisolated let loop: any Loop
    private let map: ClusterMap
    private let peers: Peers
    private let online: OnlineUsers
    private let hubs: [EdgeHub]
    private let activity: ActivityMarks
    private let lease: Duration
    private let limits: OnlineLimits
    private let random: @Sendable () -> UInt64
    private let logger: Logger
    private let metrics: FabricMetrics
    private let backoff = Backoff(base: .milliseconds(50), cap: .seconds(1))

    private var ledger: OnlineLedger
    /// Nodes with a message under way, or with one that is soon to leave.
    private var busy: Set<NodeID> = []
    private var isGathering = false
    private var isStopped = false
    private var overflows = 0

    init(
        loop: any Loop, map: ClusterMap, peers: Peers, online: OnlineUsers, hubs: [EdgeHub],
        activity: ActivityMarks, lease: Duration, limits: OnlineLimits, random: @escaping @Sendable () -> UInt64,
        logger: Logger, metrics: FabricMetrics
    ) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.loop = loop
        self.map = map
        self.peers = peers
        self.online = online
        self.hubs = hubs
        self.activity = activity
        self.lease = lease
        self.limits = limits
        self.random = random
        self.logger = logger
        self.metrics = metrics
        self.ledger = OnlineLedger(limits: limits)
    }

    func start() { self.compareLater() }

    func stop() {
        self.isStopped = true
        self.activity.onThisLoop { $0.stop() }
    }

    // MARK: What happens on this node

    /// Called on a hub's loop.
    nonisolated func changed(_ changes: [OnlineChange]) {
        self.loop.execute { self.onThisLoop { $0.take(changes) } }
    }

    private func take(_ changes: [OnlineChange]) {
        var known: [UserKey] = []
        for change in changes {
            switch change.kind {
            case .joined: if self.ledger.joined(change.user, change.shard) { known.append(change.user) }
            case .again: if self.ledger.isKnown(change.user, change.shard) { known.append(change.user) }
            case .left: self.ledger.left(change.user, change.shard)
            }
        }
        self.tellHubs(known)
        self.activity.onThisLoop { $0.add(changes) }
        self.gather()
    }

    /// Called on the loop with each new view.
    func viewChanged(_ view: View) {
        var moved: [Shard] = []
        for shard in (0..<Shard.count).map(Shard.init(index:)) {
            let target = self.map.owner(of: shard.slot).flatMap { view.member($0) }
                .map { OnlineLedger.Target(node: $0.node, incarnation: $0.incarnation) }
            if self.ledger.retarget(shard, to: target) { moved.append(shard) }
        }
        self.gather()
        guard !moved.isEmpty else { return }
        // The old owner may have committed rows until it learnt of the view, or until its lease was over.
        let shards = Set(moved)
        let jitter = Duration.nanoseconds(Int64(self.random() % 1_000_000_000))
        self.loop.schedule(after: self.lease + jitter) {
            for hub in self.hubs { hub.loop.execute { hub.onThisLoop { $0.compareInboxes(in: shards) } } }
        }
    }

    /// Others had counted this node out, and forgot its users.
    func renew() {
        self.ledger.renew()
        self.gather()
    }

    private func tellHubs(_ known: [UserKey]) {
        guard !known.isEmpty else { return }
        for hub in self.hubs { hub.loop.execute { hub.onThisLoop { $0.areKnown(known) } } }
    }

    // MARK: Announcing

    private func gather() {
        guard !self.isGathering, !self.isStopped else { return }
        self.isGathering = true
        self.loop.schedule(after: self.limits.window) {
            self.onThisLoop { announcer in
                announcer.isGathering = false
                announcer.loop.task { await announcer.announce() }
            }
        }
    }

    private func announce() async {
        await self.holdDoubtedPushes()
        self.metrics.onlineChanges.record(Double(self.ledger.waitingChanges))
        for node in self.ledger.due.subtracting(self.busy).sorted() {
            self.busy.insert(node)
            self.loop.task {
                await self.announce(to: node)
                self.busy.remove(node)
                self.metrics.onlineChanges.record(Double(self.ledger.waitingChanges))
                if !self.ledger.due.isEmpty { self.gather() }
            }
        }
        if self.ledger.overflows > self.overflows {
            self.metrics.onlineOverflows.increment(by: self.ledger.overflows - self.overflows)
            self.overflows = self.ledger.overflows
        }
    }

    private func holdDoubtedPushes() async {
        let doubted = self.ledger.doubted
        guard !doubted.isEmpty else { return }
        let shards = Set(doubted)
        for hub in self.hubs { await hub.awaitAnnouncements(of: shards) }
        self.ledger.holdPushes(of: doubted)
    }

    /// One message after the other until nothing is left for this node.
    private func announce(to node: NodeID) async {
        var attempt = 0
        while !self.isStopped {
            await self.holdDoubtedPushes()
            guard let batch = self.ledger.take(for: node) else { return }
            self.metrics.onlineAnnouncements.increment(by: batch.announcements.count)
            let answer = await self.ask(.onlineAnnouncements(batch.announcements), node)
            if let answer {
                self.tellHubs(self.ledger.acknowledged(batch, answer))
                self.metrics.onlineSnapshots.increment(by: answer.wanted.count)
            } else {
                self.ledger.failed(batch)
            }
            if answer?.refused.isEmpty == true {
                attempt = 0
            } else {
                await self.loop.sleep(for: self.backoff.delay(attempt: attempt, random: self.random()))
                attempt += 1
            }
        }
    }

    /// - Returns: nil where there is no answer.
    private func ask(_ request: PeerRequest, _ node: NodeID) async -> OnlineAnswer? {
        guard node != self.map.node else {
            let incarnation = self.map.incarnation
            switch request {
            case .onlineAnnouncements(let some):
                return self.online.received(some, from: node, incarnation: incarnation)
            case .onlineDigests(let some): return self.online.received(some, from: node, incarnation: incarnation)
            default: return nil
            }
        }
        let response = try? await self.peers.request(request, of: node, timeout: self.limits.answerTime)
        guard case .online(let answer) = response else { return nil }
        return answer
    }

    // MARK: Comparing

    private func compareLater() {
        guard !self.isStopped else { return }
        // Spread, so that nodes that started together do not ask together.
        let interval = self.limits.digestInterval.nanoseconds
        let jitter = Int64(self.random() % UInt64(max(1, interval / 4)))
        self.loop.schedule(after: .nanoseconds(interval / 8 * 7 + jitter)) {
            self.onThisLoop { announcer in
                announcer.loop.task { await announcer.compare() }
                announcer.compareLater()
            }
        }
    }

    private func compare() async {
        for (target, digests) in self.ledger.digests().sorted(by: { $0.key.node < $1.key.node }) {
            guard let answer = await self.ask(.onlineDigests(digests), target.node) else { continue }
            let repairs = self.ledger.compared(digests, by: target, answer)
            guard repairs > 0 else { continue }
            self.metrics.onlineRepairs.increment(by: repairs)
            self.logger.notice(
                "an owner knew other users of this node: telling it again",
                metadata: ["peer": "\(target.node)", "shards": "\(repairs)"])
        }
        self.gather()
    }
}
