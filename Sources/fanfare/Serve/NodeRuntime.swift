import FanfareCommand
import FanfareCore
import FanfareEngines
import FanfareFabric
import FanfareGateway
import FanfareLoops
import FanfareModel
import FanfareObservability
import FanfarePostgres
import FanfareRedis
import Foundation
import Hummingbird
import Logging
import NIOPosix
import ServiceLifecycle

/// A node with its loops, engines and doors: the parts put together, started and stopped in order.
final class NodeRuntime: Service {
    private let configuration: ServeConfiguration
    private let loops: EdgeLoopGroup
    private let broker: any Broker
    private let store: PostgresStore?
    private let node: Node
    private let door: HTTPFrontDoor
    private let listener: Listener
    private let logger: Logger

    /// - Throws: a setting that cannot work.
    init(_ configuration: ServeConfiguration, registry: PrometheusRegistry, logger: Logger) async throws {
        self.configuration = configuration
        self.logger = logger
        NodeRuntime.tellWhatIsNotBuilt(configuration, logger)
        let loops = try EdgeLoopGroup(count: configuration.loops)
        self.loops = loops
        let main = loops.loops[0]
        let surroundings = Surroundings(
            wallClock: { Timestamp(milliseconds: Int64(Date().timeIntervalSince1970 * 1000)) },
            random: { UInt64.random(in: .min ... .max) })
        let id = NodeID(configuration.nodeName)

        if let url = configuration.redisURL {
            self.broker = try RedisBroker(
                RedisConfiguration(url: RedisURL(parsing: url), prefix: configuration.redisPrefix), node: id,
                loop: main,
                surroundings: surroundings, logger: logger)
        } else {
            self.broker = MemoryBroker(node: id, hub: MemoryHub(clock: { main.now }), loop: main)
        }
        if let url = configuration.databaseURL {
            var database = try PostgresConfiguration(url: url)
            database.requestConnections = configuration.databaseConnections
            database.fanoutConnections = configuration.fanoutConnections
            database.broadcastThreshold = configuration.limits.broadcastThreshold
            database.holdOff = configuration.limits.holdOff
            database.ahead.users = configuration.limits.onlineFirst
            database.fanoutRate = configuration.limits.fanoutRate
            database.fanoutRates = configuration.limits.fanoutRates
            database.fanoutPriorities = configuration.limits.fanoutPriorities
            database.deadLetterLimit = configuration.limits.deadLetterLimit
            database.deadLetterTime = configuration.limits.deadLetterTime
            database.mutedStreamersLimit = configuration.limits.mutedStreamers
            database.scheduledEventsLimit = configuration.limits.scheduledEvents
            database.inboxRetention = configuration.limits.inboxRetention
            database.inboxLimit = configuration.limits.inboxLimit
            database.eventRetention = configuration.limits.eventRetention
            database.queueLimit = configuration.limits.databaseQueue
            database.queueTimeout = configuration.limits.databaseQueueTime
            database.statementTimeout = configuration.limits.statementTimeout
            database.requestTimeout = configuration.limits.requestTimeout
            if let target = configuration.limits.readTarget {
                database.bulkLimit.target = target
            } else {
                database.bulkGivesWay = false
            }
            self.store = try PostgresStore(database, random: surroundings.random, logger: logger)
        } else {
            self.store = nil
        }
        let tokens = try await Authenticator(
            Authenticator.Options(
                secret: configuration.tokenSecret.map { Bytes($0.utf8) },
                keySource: try configuration.jwks.map { keys in
                    switch keys {
                    case .file(let text), .url(let text): try KeySource(text)
                    }
                }),
            wallClock: surroundings.wallClock, now: { main.now }, logger: logger)

        let maximumData = configuration.limits.dataBytes
        let maximumTimeToLive = Int(configuration.limits.notificationTime.components.seconds)
        self.node = Node(
            NodeConfiguration(configuration, version: Version.current), loops: loops.loops, broker: self.broker,
            store: self.store, tokens: tokens, surroundings: surroundings, logger: logger
        ) { node, method, data, caller async throws(FanfareError) in
            try await MethodRouter(
                operations: node, maximumData: maximumData, maximumTimeToLive: maximumTimeToLive
            ).callRemote(method, data, by: caller)
        }

        let router = GatewayRouter(context: GatewayRequestContext.self)
        ServerAPI(
            methods: MethodRouter(
                operations: self.node, maximumData: maximumData, maximumTimeToLive: maximumTimeToLive),
            key: configuration.apiKey.flatMap { APIKey($0) }
        ).addRoutes(to: router)
        UpgradeRoute.add(to: router, path: "/connection/websocket")
        let readiness = ReadinessCheck(
            node: self.node, broker: self.broker, store: self.store, clock: { main.now })
        HealthRoutes(readiness: { await readiness.check() }, metrics: { registry.render() }).addRoutes(to: router)
        self.door = HTTPFrontDoor(router: router, group: .singleton, logger: logger)
        let node = self.node
        self.listener = Listener(
            group: loops,
            routes: ConnectionRoutes(http: self.door) { transport, opening in node.makeSession(transport, opening) },
            options: ConnectionOptions(configuration), logger: logger)
        self.exposeMetrics(in: registry)
    }

    /// A setting that would silently do nothing is told.
    private static func tellWhatIsNotBuilt(_ configuration: ServeConfiguration, _ logger: Logger) {
        let unused = [
            ("accounts", configuration.hasAccounts), ("eventsub_secret", configuration.eventSubSecret != nil),
            ("otlp_endpoint", configuration.otlpEndpoint != nil),
        ]
        for (name, isSet) in unused where isSet {
            logger.warning("a setting has no effect in this version", metadata: ["setting": "\(name)"])
        }
    }

    /// Listens and begins to work.
    /// - Throws: where the port is taken.
    func start() async throws {
        let (host, wanted) = (self.configuration.host, self.configuration.port)
        let port: UInt16
        do {
            port = try await self.listener.start(host: host, port: UInt16(clamping: wanted))
        } catch {
            throw StartFailure("cannot listen on \(host):\(wanted): \(error)")
        }
        // Only now: what stops a start is the one line that it prints.
        for warning in self.configuration.warnings { self.logger.warning("\(warning)") }
        if self.configuration.redisURL == nil {
            self.logger.notice("no redis_url: one node, with the in-memory broker")
        }
        if self.store == nil {
            self.logger.notice("no database_url: rooms work, durable features answer with error 1004")
        }
        self.store?.start()
        self.node.start()
        self.logger.notice(
            "listening",
            metadata: ["address": "\(self.configuration.host):\(port)", "version": "\(Version.current)"])
    }

    /// What an operator's `drain` of this node does.
    func whenToldToLeave(_ leave: @escaping @Sendable () -> Void) { self.node.whenToldToLeave(leave) }

    /// Serves until it is told to end, then drains.
    func run() async throws {
        async let serving: Void = self.door.run()
        try? await gracefulShutdown()
        await self.drain()
        self.door.finish()
        // Requests under way have had the whole drain to end.
        self.exitAtLast()
        await serving
    }

    private func drain() async {
        let watchdog = self.loops.loops[0].schedule(
            after: self.configuration.limits.drainDeadline + .milliseconds(1500)
        ) {
            self.logger.error("draining took too long: leaving")
            _exit(1)
        }
        await self.node.drain(within: self.configuration.limits.drainDeadline)
        await self.listener.stop()
        await self.broker.stop()
        await self.store?.stop()
        watchdog.cancel()
    }

    /// Idle keep-alive connections do not hold the process.
    private func exitAtLast() {
        self.loops.loops[0].schedule(after: .milliseconds(200)) { exit(0) }
    }

    private func exposeMetrics(in registry: PrometheusRegistry) {
        let node = self.node
        let broker = self.broker
        let store = self.store
        registry.collect("fanfare_connections", kind: .gauge, help: "WebSocket connections that are open.") {
            [.init(Double(self.listener.connectionCount))]
        }
        registry.collect("fanfare_breaker_open", kind: .gauge, help: "1 where the breaker refuses or probes.") {
            var samples: [PrometheusRegistry.Sample] = []
            var engines = [("redis", broker.health.breakers)]
            if let store { engines.append(("postgres", store.health.breakers)) }
            for (backend, breakers) in engines {
                for (work, state) in breakers.sorted(by: { $0.key < $1.key }) {
                    let labels = [("backend", backend), ("class", work)]
                    samples.append(.init(state == "closed" ? 0 : 1, labels: labels))
                }
            }
            return samples
        }
        registry.collect("fanfare_log_dropped_total", kind: .counter, help: "Log lines dropped.") {
            [.init(Double(StandardErrorSink.shared.dropped))]
        }
        registry.collect("fanfare_draining", kind: .gauge, help: "1 while the node drains.") {
            [.init(node.drains ? 1 : 0)]
        }
    }
}

/// Why a node cannot start: one line.
struct StartFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// What `/health/ready` tells.
struct ReadinessCheck: Sendable {
    let node: Node
    let broker: any Broker
    let store: PostgresStore?
    let clock: @Sendable () -> MonotonicInstant

    private var leaseProblem: String {
        guard let conflict = self.node.map.nameConflict else { return "the lease was not renewed" }
        return "another process runs under the node name \(self.node.map.node): \(conflict)"
    }

    func check() async -> Readiness {
        let broker = self.broker.health
        let holdsLease = self.node.map.holdsLease(at: self.clock())
        var parts = [
            Readiness.Part(
                name: "broker", state: broker.commands && broker.subscriptions ? "ok" : "failed",
                problem: broker.problem, breaker: broker.breaker, breakers: broker.breakers,
                isReady: broker.commands && broker.subscriptions),
            Readiness.Part(
                name: "membership", state: holdsLease ? "ok" : "failed",
                problem: holdsLease ? nil : self.leaseProblem, isReady: holdsLease),
        ]
        if let store = self.store {
            let health = store.health
            parts.append(
                Readiness.Part(
                    name: "database", state: health.isReachable ? "ok" : "failed", problem: health.problem,
                    breaker: health.breaker, breakers: health.breakers, isReady: health.isReachable))
        } else {
            parts.append(Readiness.Part(name: "database", state: "off", isReady: true))
        }
        if self.node.drains { parts.append(Readiness.Part(name: "node", state: "draining", isReady: false)) }
        return Readiness(parts: parts)
    }
}

extension NodeConfiguration {
    init(_ configuration: ServeConfiguration, version: String) {
        let limits = configuration.limits
        self.init(
            name: NodeID(configuration.nodeName), address: configuration.address, version: version,
            weight: configuration.weight, lease: limits.heartbeatLease)
        self.retention = Retention(
            count: limits.historySize, bytes: limits.historyBytes, time: limits.historyTime,
            positionTime: limits.positionTime, emptyTime: limits.emptyRoomTime,
            idempotencyWindow: limits.idempotencyWindow)
        self.idempotencyKeys = limits.idempotencyKeys
        self.session.dataBytes = limits.dataBytes
        self.session.channels = limits.channelsPerSession
        self.session.commandsUnderWay = limits.commandsPerSession
        if let rate = limits.commandRate {
            self.session.commandsPerSecond = rate
            self.session.pacesLoopback = true
        }
        self.session.commandBurst = limits.commandBurst
        self.session.pingInterval = limits.pingInterval
        self.session.pongTime = limits.pongTimeout
        self.session.staleTime = limits.staleTimeout
        self.session.expiryGrace = limits.expiryGrace
        self.session.inboxRecovery = limits.inboxRecovery
        self.session.heldBytes = limits.heldBytes
        self.slot.rooms = limits.ownedRooms
        self.session.inboxHeld = limits.inboxHeld
        self.online.usersPerShard = limits.onlineUsers
        self.online.changesPerShard = limits.onlineChanges
        self.slot.waitingCount = limits.slotQueue
        self.slot.waitingBytes = limits.slotQueueBytes
        self.router.requests = limits.roomRequests
        // One connection is left for the relay.
        self.fanout.workers = max(1, configuration.fanoutConnections - 1)
    }
}

extension ConnectionOptions {
    init(_ configuration: ServeConfiguration) {
        self.init()
        self.maximumConnections = configuration.limits.connections
        self.maximumMessage = configuration.limits.messageBytes
        self.maximumQueuedBytes = configuration.limits.queueBytes
        if let rate = configuration.limits.connectRate {
            self.connectsPerAddress = Double(rate)
            self.loopbackIsFree = false
        }
        self.connectBurstPerAddress = Double(configuration.limits.connectBurst)
        self.allowedOrigins = configuration.allowedOrigins
    }
}
