import FanfareCore
import FanfareEngines
import FanfareLoops
import FanfareModel
import Logging
import Metrics

/// The connection that messages arrive on. Proves every moment that they do: a probe travels through the command link and
/// the server to this link.
actor SubscriptionLink: RedisLink {
    /// Channels per SUBSCRIBE after a reconnect, and such commands under way at a time: the server's buffer for this
    /// link's acknowledgements is bounded.
    private static let batchSize = 256
    private static let batchesUnderWay = 8

    private enum Stage {
        case away
        /// That many replies to the login are missing.
        case login(Int)
        /// Subscribing again, to the node's own channels first.
        case restoring
        case inPlace
    }

    nonisolated let shared: LinkSurroundings
    nonisolated var unownedExecutor: UnownedSerialExecutor { self.shared.loop.asUnownedSerialExecutor() }

    private let commands: CommandLink
    private let channels: NodeChannels
    private let keys: RedisKeys
    private let receiver: any BrokerReceiver

    var dial = DialState()
    private var stage = Stage.away
    /// Whether `linkLost` was told and `linkRestored` was not.
    private var isMissed = false
    /// By channel.
    private var rooms: [String: Subscription] = [:]
    /// Acknowledgements of the restoring SUBSCRIBEs that are missing.
    private var restoresUnderWay = 0
    private var restoresWaiting: [String] = []
    private var probe = DeliveryProbe()
    private var probeTimer: ScheduledCall?

    init(
        _ shared: LinkSurroundings, commands: CommandLink, channels: NodeChannels, keys: RedisKeys,
        receiver: any BrokerReceiver
    ) {
        self.shared = shared
        self.commands = commands
        self.channels = channels
        self.keys = keys
        self.receiver = receiver
    }

    func stop() {
        self.probeTimer?.cancel()
        self.halt(LinkFailure("the broker is stopped"))
        self.rooms = [:]
    }

    // MARK: Calls

    func subscribe(_ room: String) async throws(EngineError) {
        let error = await withCheckedContinuation { continuation in
            self.subscribe(room) { continuation.resume(returning: $0) }
        }
        if let error { throw error }
    }

    private func subscribe(_ room: String, _ waiter: @escaping Subscription.Waiter) {
        let channel = self.keys.roomChannel(room, Slot(of: room))
        if case .stopped = self.dial.phase { return waiter(EngineError(.unavailable, "the broker is stopped")) }
        // Known to be wanted: `linkRestored` will tell when it is in place.
        if self.rooms[channel]?.isKept == true { return waiter(nil) }
        guard self.canSubscribe else {
            return waiter(EngineError(.unavailable, "Redis is out of reach", retryAfter: self.retryAfter))
        }
        guard self.rooms.count < self.shared.configuration.subscriptionLimit || self.rooms[channel] != nil else {
            let limit = self.shared.configuration.subscriptionLimit
            return waiter(EngineError(.overloaded, "\(limit) rooms are subscribed already"))
        }
        switch self.rooms[channel, default: Subscription(room: room)].subscribe(waiter) {
        case .none: waiter(nil)
        case .wait: break
        case .sendSubscribe: self.dial.connection?.write(RedisCommand("SUBSCRIBE", channel))
        }
    }

    private var canSubscribe: Bool {
        switch self.stage {
        case .restoring, .inPlace: true
        case .away, .login: false
        }
    }

    func unsubscribe(_ room: String) {
        let channel = self.keys.roomChannel(room, Slot(of: room))
        guard self.rooms[channel] != nil else { return }
        if self.rooms[channel]?.unsubscribe() == true {
            self.dial.connection?.write(RedisCommand("UNSUBSCRIBE", channel))
        }
        self.removeIfOver(channel)
    }

    private func removeIfOver(_ channel: String) {
        if self.rooms[channel]?.isOver == true { self.rooms[channel] = nil }
    }

    // MARK: Replies

    func received(_ replies: [RedisReply]) {
        self.probe.heard()
        for reply in replies {
            if case .error(let text) = reply { return self.fail(LinkFailure("the server refused: \(text)")) }
            switch self.stage {
            case .away: return
            case .login(let missing) where missing > 1: self.stage = .login(missing - 1)
            case .login: self.restore()
            case .restoring, .inPlace: self.pushed(reply)
            }
        }
    }

    private func pushed(_ reply: RedisReply) {
        guard let elements = reply.elements, elements.count >= 2, let kind = elements[0].bytes else { return }
        if kind.elementsEqual("message".utf8) {
            if elements.count == 3, let channel = elements[1].text, let bytes = elements[2].bytes {
                self.message(bytes, on: channel)
            }
        } else if kind.elementsEqual("subscribe".utf8) {
            self.acknowledged(elements[1].text ?? "")
        } else if kind.elementsEqual("unsubscribe".utf8) {
            let channel = elements[1].text ?? ""
            self.rooms[channel]?.unsubscribed()
            self.removeIfOver(channel)
        }
        // What is left is the pong of a ping, which was heard.
    }

    private func message(_ bytes: Bytes, on channel: String) {
        if let room = self.rooms[channel] {
            guard room.isWanted else { return }
            guard let batch = BatchCodec.decode(bytes) else {
                self.shared.logger.warning(
                    "Redis: a message of a room is malformed", metadata: ["channel": "\(channel)"])
                return
            }
            self.receiver.received(batch, room: room.room)
        } else if channel == self.channels.inbox || channel == self.channels.all {
            self.receiver.received(message: bytes)
        } else if channel == self.channels.view {
            self.receiver.membershipChanged()
        } else if channel == self.channels.probe, let number = UInt64(String(decoding: bytes, as: UTF8.self)) {
            self.probe.arrived(number)
        }
    }

    private func acknowledged(_ channel: String) {
        let waiters = self.rooms[channel]?.subscribed() ?? []
        for waiter in waiters { waiter(nil) }
        self.removeIfOver(channel)
        // Acknowledgements come in the order of the commands, so in this stage one that nobody waits for is a
        // restoring one.
        guard case .restoring = self.stage, waiters.isEmpty else { return }
        self.restoresUnderWay -= 1
        self.restoreMore()
    }

    // MARK: Restoring

    func shakeHands() {
        let commands = self.loginCommands
        self.stage = .login(commands.count)
        for command in commands { self.dial.connection?.write(command) }
    }

    private func restore() {
        self.stage = .restoring
        self.expectProgress()
        self.restoresWaiting = self.rooms.keys.sorted()
        self.restoresUnderWay = self.channels.list.count
        self.dial.connection?.write(RedisCommand("SUBSCRIBE", self.channels.list.map { Array($0.utf8) }))
        self.restoreMore()
    }

    private func restoreMore() {
        while !self.restoresWaiting.isEmpty, self.restoresUnderWay <= Self.batchSize * (Self.batchesUnderWay - 1) {
            // Given up, or subscribed by a caller, since: not again.
            let batch = self.restoresWaiting.suffix(Self.batchSize).filter { channel in
                self.rooms[channel].map { $0.isKept && !$0.isWanted } ?? false
            }
            self.restoresWaiting.removeLast(min(Self.batchSize, self.restoresWaiting.count))
            guard !batch.isEmpty else { continue }
            for channel in batch { self.rooms[channel]?.resubscribe() }
            self.restoresUnderWay += batch.count
            self.dial.connection?.write(RedisCommand("SUBSCRIBE", batch.map { Array($0.utf8) }))
            self.expectProgress()
        }
        if self.restoresUnderWay == 0, self.restoresWaiting.isEmpty { self.restored() }
    }

    private func restored() {
        self.stage = .inPlace
        if self.dial.number > 1 { self.shared.metrics.subscriptionReconnects.increment() }
        self.becameUp()
        self.shared.metrics.subscriptionConnected.record(1)
        self.shared.health.subscriptions(nil)
        self.shared.logger.info("Redis: subscriptions in place", metadata: ["rooms": "\(self.rooms.count)"])
        self.probe = DeliveryProbe()
        self.probe.heard()
        self.scheduleProbe()
        if self.isMissed {
            self.isMissed = false
            self.receiver.linkRestored()
        }
    }

    // MARK: Probing

    private func scheduleProbe() {
        self.probeTimer?.cancel()
        self.probeTimer = self.shared.loop.schedule(after: self.shared.configuration.probeInterval) { [weak self] in
            self?.assumeIsolated { $0.sendProbe() }
        }
    }

    private func sendProbe() {
        guard case .inPlace = self.stage else { return }
        let now = self.shared.loop.now
        if let problem = self.probe.problem(now: now, timeout: self.shared.configuration.probeTimeout) {
            return self.fail(LinkFailure(problem))
        }
        self.dial.connection?.write(RedisCommand("PING"))
        let number = self.probe.next(now: now)
        let command = RedisCommand("PUBLISH", self.channels.probe, String(number))
        let link = self.dial.number
        self.commands.assumeIsolated { commands in
            commands.submit(command, .probe) { [weak self] result in
                guard case .success = result else { return }
                self?.assumeIsolated { subscriptions in
                    // A probe of an earlier connection says nothing of this one.
                    if subscriptions.dial.number == link { subscriptions.probe.published(number, at: now) }
                }
            }
        }
        self.scheduleProbe()
    }

    // MARK: The link

    func holdBack() -> Duration? { nil }

    func ended(_ failure: LinkFailure, wasUp: Bool) {
        self.stage = .away
        self.probeTimer?.cancel()
        self.probeTimer = nil
        self.restoresWaiting = []
        self.restoresUnderWay = 0
        self.shared.health.subscriptions(failure.description)
        self.shared.metrics.subscriptionConnected.record(0)
        let isNews = wasUp || self.dial.failures == 0
        self.shared.logger.log(
            level: isNews ? .warning : .debug,
            wasUp ? "Redis: subscriptions lost" : "Redis: subscriptions cannot be set up",
            metadata: ["reason": "\(failure)"])
        var waiters: [Subscription.Waiter] = []
        for channel in Array(self.rooms.keys) {
            waiters += self.rooms[channel]?.linkBroke() ?? []
            if self.rooms[channel]?.isKept == false { self.rooms[channel] = nil }
        }
        for waiter in waiters {
            waiter(EngineError(.unavailable, "the link to Redis broke: \(failure)", retryAfter: self.retryAfter))
        }
        if !self.isMissed {
            self.isMissed = true
            self.receiver.linkLost()
        }
    }
}

/// The channels that every node listens to, whatever its rooms.
struct NodeChannels: Sendable {
    let inbox: String
    let all: String
    let view: String
    /// This link's alone.
    let probe: String

    var list: [String] { [self.inbox, self.all, self.view, self.probe] }
}
