package import FanfareCore
package import FanfareEngines
package import FanfareModel
import FanfareProtocol
package import Logging
import Synchronization

/// One Fanfare process: its actors, put together. Does no I/O of its own; loops, engines, clock and randomness are handed
/// in, so that a whole cluster runs in one process under the simulation.
package final class Node: Sendable {
    package let configuration: NodeConfiguration
    package let incarnation: String
    package let map: ClusterMap
    package let slots: OwnedSlots
    package let router: RoomRouter
    package let hubs: [EdgeHub]
    package let store: (any Store)?
    let broker: any Broker
    let budget: RoomBudget
    let membership: Membership
    let peers: Peers
    let service: PeerService
    let subscriptions: RoomSubscriptions
    /// Who is online of the users whose shards this node owns.
    package let online: OnlineUsers
    let announcer: OnlineAnnouncer?
    let pusher: InboxPusher
    let fanout: Fanout?
    let scheduler: EventScheduler?
    let surroundings: Surroundings
    let logger: Logger
    let metrics: FabricMetrics
    let loops: [any Loop]
    let knownUsers = KnownUsers()
    private let startedAt: MonotonicInstant
    private let isDraining = Mutex(false)
    private struct WeakServices { weak var shared: SessionServices? }
    private let services = Mutex(WeakServices())
    /// Idempotency keys that came through here and that engines remember now.
    let rememberedKeys: Mutex<WindowCount>
    private let tokens: any TokenVerifier
    /// The methods of clients' rpc; set once, before the first session.
    let methods: @Sendable (Node, String, Bytes, Caller) async throws(FanfareError) -> Bytes

    /// - Parameters:
    ///   - loops: the first one carries membership and coordination too.
    ///   - methods: runs a method of the application's vocabulary for a client; see `Methods/`.
    package init(
        _ configuration: NodeConfiguration, loops: [any Loop], broker: any Broker, store: (any Store)?,
        tokens: any TokenVerifier, surroundings: Surroundings, logger: Logger,
        methods: @escaping @Sendable (Node, String, Bytes, Caller) async throws(FanfareError) -> Bytes
    ) {
        precondition(!loops.isEmpty)
        var logger = logger
        logger[metadataKey: "node"] = "\(configuration.name)"
        let log = logger
        let main = loops[0]
        let metrics = FabricMetrics()
        let map = ClusterMap(node: configuration.name, incarnation: surroundings.letters())
        let views = ViewListeners()

        self.configuration = configuration
        self.incarnation = map.incarnation
        self.loops = loops
        self.broker = broker
        self.store = store
        self.tokens = tokens
        self.surroundings = surroundings
        self.logger = log
        self.metrics = metrics
        self.map = map
        self.methods = methods
        self.startedAt = main.now
        self.rememberedKeys = Mutex(
            WindowCount(
                limit: configuration.idempotencyKeys, window: configuration.retention.idempotencyWindow, now: main.now))
        let member = Member(
            node: configuration.name, incarnation: map.incarnation, address: configuration.address,
            weight: configuration.weight)
        let membership = Membership(
            loop: main, broker: broker, map: map, member: member, lease: configuration.lease,
            surroundings: surroundings, logger: log, viewChanged: { views.changed($0) }, joined: { views.joined() },
            nameLost: { views.nameLost() })
        self.membership = membership
        let peers = Peers(
            node: configuration.name, incarnation: map.incarnation, broker: broker, loop: main, logger: log)
        self.peers = peers
        let budget = RoomBudget(limit: configuration.slot.rooms, metrics: metrics)
        self.budget = budget
        self.slots = OwnedSlots { slot in
            SlotWriter(
                slot: slot, loop: loops[slot.index % loops.count], broker: broker, membership: membership, map: map,
                limits: configuration.slot, retention: { _ in configuration.retention },
                newEpoch: { surroundings.letters() }, logger: log, metrics: metrics, budget: budget)
        }
        self.router = RoomRouter(
            map: map, slots: self.slots, peers: peers, membership: membership, broker: broker, loop: main,
            limits: configuration.router, metrics: metrics)
        let subscriptions = RoomSubscriptions(loop: main, broker: broker)
        self.subscriptions = subscriptions
        let channelLog = ChannelLogs(router: self.router, store: store)
        self.hubs = loops.enumerated().map { index, loop in
            EdgeHub(
                loop: loop, index: index, subscriptions: subscriptions, log: channelLog, limits: configuration.edge,
                random: surroundings.random, logger: log, metrics: metrics)
        }
        let online = OnlineUsers(map: map, limits: configuration.online, metrics: metrics)
        self.online = online
        let pusher = InboxPusher(
            loop: main, map: map, peers: peers, online: online, hubs: self.hubs, limits: configuration.pusher,
            random: surroundings.random, logger: log, metrics: metrics)
        self.pusher = pusher
        self.fanout = store.map { store in
            Fanout(
                loop: main, store: store, map: map, peers: peers, limits: configuration.fanout,
                random: surroundings.random, logger: log, metrics: metrics
            ) { index, shards in
                FanoutWorker(
                    shards: shards, loop: loops[index % loops.count], store: store, map: map, membership: membership,
                    online: online, pusher: pusher, pace: BatchPace(configuration.fanout), logger: log,
                    metrics: metrics)
            }
        }
        self.scheduler = store.map { [fanout = self.fanout] store in
            EventScheduler(loop: main, store: store, logger: log) { await fanout?.eventAccepted() }
        }
        let description = NodeDescription(
            configuration: configuration, map: map, membership: membership, hubs: self.hubs, slots: self.slots,
            subscriptions: subscriptions, loop: main, startedAt: self.startedAt)
        self.service = PeerService(
            loop: main, map: map, peers: peers, slots: self.slots, hubs: self.hubs, pusher: pusher, online: online,
            logger: log, describe: { await description.info() })
        let hubs = self.hubs
        let announcer = store.map { store in
            let activity = ActivityMarks(
                loop: main, store: store, limit: configuration.online.activityMarks, logger: log, metrics: metrics)
            return OnlineAnnouncer(
                loop: main, map: map, peers: peers, online: online, hubs: hubs, activity: activity,
                lease: configuration.lease,
                limits: configuration.online, random: surroundings.random, logger: log, metrics: metrics)
        }
        self.announcer = announcer
        let slots = self.slots
        views.listen { view in
            slots.viewChanged(map)
            peers.viewChanged(view)
            online.viewChanged(view)
            announcer?.onThisLoop { $0.viewChanged(view) }
            metrics.viewNumber.record(Double(view.number.number))
            metrics.members.record(Double(view.members.count))
            metrics.slotsOwned.record(Double(map.ownedSlots().count))
        }
        views.listenToLosses { slots.viewChanged(map) }
        views.listenToJoins {
            announcer?.onThisLoop { $0.renew() }
            for hub in hubs { hub.loop.execute { hub.onThisLoop { $0.repairInboxes() } } }
            // Others may push by a view without this node until they have learnt the new one.
            main.schedule(after: configuration.lease) {
                for hub in hubs { hub.loop.execute { hub.onThisLoop { $0.checkInboxes() } } }
            }
        }
    }

    /// Begins to work; returns at once. The engines may be away: readiness says so.
    package func start() {
        self.broker.start(receiver: self)
        let service = self.service
        let fanout = self.fanout
        let scheduler = self.scheduler
        let membership = self.membership
        let announcer = self.announcer
        for hub in self.hubs {
            hub.loop.execute {
                hub.onThisLoop { hub in
                    if let announcer { hub.announce(to: announcer) }
                    hub.start()
                }
            }
        }
        self.loops[0].execute {
            announcer?.onThisLoop { $0.start() }
            membership.onThisLoop { $0.start() }
            if let fanout {
                service.onThisLoop { $0.serve(fanout) }
                fanout.onThisLoop { $0.start() }
            }
            scheduler?.onThisLoop { $0.start() }
        }
        self.sweepLater()
        self.relieveLater()
    }

    /// What an operator's `drain` does: the process then drains and ends as it does on a signal.
    package func whenToldToLeave(_ leave: @escaping @Sendable () -> Void) {
        let service = self.service
        self.loops[0].execute { service.onThisLoop { $0.whenToldToLeave(leave) } }
    }

    private func sweepLater() {
        self.loops[0].schedule(after: .seconds(60)) {
            self.slots.sweep()
            self.sweepLater()
        }
    }

    /// Where rooms were refused, those not in use make room.
    private func relieveLater() {
        self.loops[0].schedule(after: .seconds(1)) {
            if self.budget.takeRefusal() { self.slots.sweep(isFull: true) }
            self.relieveLater()
        }
    }

    /// A session for a new connection; called on the connection's loop.
    package func makeSession(_ transport: any SessionTransport, _ opening: SessionOpening) -> Session {
        let hub = self.hubs.first { $0.loop === opening.loop } ?? self.hubs[0]
        let session = Session(
            client: ClientID(self.surroundings.uuid()), transport: transport, opening: opening, hub: hub,
            services: self.sharedServices())
        session.onThisLoop { $0.start() }
        return session
    }

    /// Held by the sessions; they hold the node through it, hence not the other way round.
    private func sharedServices() -> SessionServices {
        self.services.withLock { services in
            if let shared = services.shared { return shared }
            let made = SessionServices(
                node: self.configuration.name, version: self.configuration.version, backend: self,
                tokens: self.tokens, limits: self.configuration.session, surroundings: self.surroundings,
                logger: self.logger, metrics: self.metrics,
                admits: { [unowned self] in !self.drains && self.map.nameConflict == nil })
            services.shared = made
            return made
        }
    }

    package var drains: Bool { self.isDraining.withLock { $0 } }

    /// Leaves in peace: admits nobody, gives the slots up, sends the sessions away in waves, leaves the membership.
    /// - Parameter deadline: how long sending the sessions away may take.
    package func drain(within deadline: Duration) async {
        self.isDraining.withLock { $0 = true }
        self.logger.notice("draining")
        await self.membership.drain()
        await self.scheduler?.stop()
        await self.fanout?.stop()
        var sessions: [Session] = []
        for hub in self.hubs { sessions += await hub.allSessions }
        // Small waves spread over most of the time there is; few sessions go at once.
        let waves = min(20, max(1, sessions.count / 50))
        let pause = deadline / 2 / waves
        let size = (sessions.count + waves - 1) / max(1, waves)
        var start = 0
        while start < sessions.count {
            for session in sessions[start..<min(start + size, sessions.count)] { await session.close(.shutdown) }
            start += size
            if start < sessions.count { await self.loops[0].sleep(for: pause) }
        }
        for hub in self.hubs { await hub.stop() }
        await self.announcer?.stop()
        await self.membership.leave()
        self.logger.notice("drained", metadata: ["sessions": "\(sessions.count)"])
    }
}

/// Tells those who listen of each new view; they are known only after the membership was made.
private final class ViewListeners: Sendable {
    private let listeners = Mutex<[@Sendable (View) -> Void]>([])
    func listen(_ listener: @escaping @Sendable (View) -> Void) { self.listeners.withLock { $0.append(listener) } }
    func changed(_ view: View) {
        for listener in self.listeners.withLock({ $0 }) { listener(view) }
    }

    private let joinListeners = Mutex<[@Sendable () -> Void]>([])
    func listenToJoins(_ listener: @escaping @Sendable () -> Void) {
        self.joinListeners.withLock { $0.append(listener) }
    }
    func joined() {
        for listener in self.joinListeners.withLock({ $0 }) { listener() }
    }

    private let lossListeners = Mutex<[@Sendable () -> Void]>([])
    func listenToLosses(_ listener: @escaping @Sendable () -> Void) {
        self.lossListeners.withLock { $0.append(listener) }
    }
    func nameLost() {
        for listener in self.lossListeners.withLock({ $0 }) { listener() }
    }
}

/// Rooms are read at their owner, direct messages in the store.
struct ChannelLogs: ChannelLog {
    let router: RoomRouter
    let store: (any Store)?

    func inboxPositions(
        of users: [UserID], below bounds: [UserID: UInt64]
    ) async throws(FanfareError) -> [UserID: InboxPosition] {
        guard let store = self.store else { return [:] }
        return try await store.inboxPositions(of: users, below: bounds)
    }

    func pushPolicy(of user: UserID) async throws(FanfareError) -> PushPolicy {
        guard let store = self.store else { return PushPolicy() }
        return try await store.pushPolicy(of: user)
    }

    func userKeys(of users: [UserID]) async throws(FanfareError) -> [UserID: UserKey] {
        guard let store = self.store else { return [:] }
        return try await store.ensureUsers(users)
    }

    func history(_ filter: HistoryFilter, of channel: Channel) async throws(FanfareError) -> RoomHistory {
        guard case .direct = channel.kind else { return try await self.router.history(filter, room: channel) }
        guard let store = self.store else { throw .databaseUnavailable }
        if filter.reverse, filter.since?.offset == 0 { throw .badRequest("reverse history needs an offset above 0") }
        do throws(EngineError) {
            let history = try await store.readDirect(channel.name, filter)
            if let epoch = filter.since?.epoch, !epoch.isEmpty, epoch != history.top.epoch {
                throw EngineError(.rejected, "epoch")
            }
            return RoomHistory(
                entries: history.entries.map { RoomHistory.Entry(offset: $0.offset, body: $0.body) }, top: history.top)
        } catch {
            if error.message == "epoch" { throw .unrecoverablePosition }
            throw error.isRetryable ? .databaseUnavailable : .internal
        }
    }
}

/// What a node says of itself.
struct NodeDescription: Sendable {
    let configuration: NodeConfiguration
    let map: ClusterMap
    let membership: Membership
    let hubs: [EdgeHub]
    let slots: OwnedSlots
    let subscriptions: RoomSubscriptions
    let loop: any Loop
    let startedAt: MonotonicInstant

    func info() async -> NodeInfo {
        var users = Set<UserID>()
        var sessions = 0
        var subscriptions = 0
        for hub in self.hubs {
            users.formUnion(await hub.userNames)
            sessions += await hub.sessionCount
            subscriptions += await hub.clientCounts().values.reduce(0, +)
        }
        var rooms = 0
        for writer in self.slots.all { rooms += await writer.roomCount }
        return NodeInfo(
            node: self.configuration.name, incarnation: self.map.incarnation, version: self.configuration.version,
            state: await self.membership.state, slots: self.map.ownedSlots().count, sessions: sessions,
            users: users.count, subscriptions: subscriptions, channels: self.subscriptions.roomCount, rooms: rooms,
            uptimeSeconds: Int((self.loop.now - self.startedAt).components.seconds))
    }
}
