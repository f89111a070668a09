import FanfareCore
import FanfareEngines
package import FanfareModel
import FanfareProtocol
import Logging

/// One client connection of one user, or of an anonymous viewer: who it is, what it is subscribed to, what it may do.
///
/// Lives on the loop of its connection. Commands pass through it; a room's publications go from the edge straight to the
/// transport.
package actor Session: SessionHandler {
    enum Phase {
        /// Nothing but a connect command is legal.
        case new
        /// The token is being checked, or server-side subscriptions are being made: commands wait.
        case connecting
        case connected
        /// Connect was refused with an error: everything is ignored until the client goes.
        case refused
        case closed
    }

    struct Subscription {
        let channel: Channel
        /// Tells a subscription from one to the same channel before it.
        let serial: UInt64
        let isServerSide: Bool
        var isActive = false
        var expiry: ScheduledCall?
    }

    struct WaitingCommand {
        let command: Command
        let kind: CommandClass
    }

    package nonisolated let unownedExecutor: UnownedSerialExecutor
    package nonisolated let client: ClientID
    nonisolated let transport: any SessionTransport
    nonisolated let variant: ProtocolVariant
    nonisolated let loop: any Loop
    nonisolated let services: SessionServices
    nonisolated let hub: EdgeHub

    var phase = Phase.new
    var user = UserID.anonymous
    var role = Role.viewer
    var info: Bytes = []
    var subscriptions: [String: Subscription] = [:]
    var lastSerial: UInt64 = 0
    /// Commands that came before connect was answered.
    var held: [Command] = []
    /// Commands that wait for those before them, and the ids of those that are under way, all of one class.
    var waiting = Fifo<WaitingCommand>()
    var underWay: Set<UInt32> = []
    var runningClass = CommandClass.alone
    /// Nil where commands may come as fast as they like.
    private var pacer: Pacer?

    /// The user channel: the highest sequence given, or nil while it is not known.
    var inboxSequence: UInt64?
    /// The client's own position, taken on trust while the store is away, and not compared since.
    var inboxClaim: UInt64?
    /// When the client connected, where the store was away then and the client had no position.
    var inboxOpened: Timestamp?
    var inboxHeld: [InboxPush] = []
    var inboxHeldBytes = 0
    /// Reads of the inbox under way: pushes wait for them.
    var inboxReads = 0
    /// Why pushes wait for a comparison; nil where they do not.
    var inboxDoubt: InboxDoubt?
    var lastInboxDoubt: UInt64 = 0
    /// Nil where there is no database, or as long as it gave no answer.
    var userKey: UserKey?

    /// What the user's preferences say of pushes, as far as they are known.
    var pushPolicy = PushPolicy()
    /// The inbox has more than was given, and that waits until quiet hours end.
    var isInboxDeferred = false
    var quietTimer: ScheduledCall?

    private var awaitsPong = false
    private var staleTimer: ScheduledCall?
    private var pingTimer: ScheduledCall?
    private var expiryTimer: ScheduledCall?

    package init(
        client: ClientID, transport: any SessionTransport, opening: SessionOpening, hub: EdgeHub,
        services: SessionServices
    ) {
        self.unownedExecutor = opening.loop.asUnownedSerialExecutor()
        self.client = client
        self.transport = transport
        self.variant = opening.variant
        self.loop = opening.loop
        self.hub = hub
        self.services = services
        self.pacer = opening.isLocal && !services.limits.pacesLoopback ? nil : Pacer()
    }

    package func start() {
        self.hub.onThisLoop { $0.register(self) }
        self.services.metrics.sessionOpened()
        self.staleTimer = self.loop.schedule(after: self.services.limits.staleTime) {
            self.onThisLoop { session in
                switch session.phase {
                case .new, .connecting: session.close(.stale)
                case .connected, .refused, .closed: break
                }
            }
        }
    }

    // MARK: What the connection tells

    package nonisolated func received(_ message: Bytes, isText: Bool) {
        self.onThisLoop { $0.handle(message) }
    }

    package nonisolated func closed() {
        self.onThisLoop { $0.end() }
    }

    private func handle(_ message: Bytes) {
        do throws(Disconnect) {
            for command in try self.variant.decode(message) {
                self.services.metrics.commands.increment()
                try self.handle(command)
                if case .closed = self.phase { return }
            }
        } catch {
            self.close(error)
        }
    }

    func handle(_ command: Command) throws(Disconnect) {
        switch self.phase {
        case .new:
            guard case .connect(let request) = command.body else { throw .badRequest }
            guard self.services.admits() else { throw .shutdown }
            self.connect(id: command.id, request)
        case .connecting:
            // As many as a client may have under way, and the subscriptions it makes at once.
            guard self.held.count < self.services.limits.commandsUnderWay + self.services.limits.channels else {
                throw .tooManyRequests
            }
            self.held.append(command)
        case .connected:
            guard self.isInPace(command) else { return self.refuseUnderLoad(command.id) }
            try self.perform(command)
        case .refused, .closed:
            return
        }
    }

    /// Pongs are not the client's choice, and `send` has no answer to be refused with: it ends the session anyway.
    private func isInPace(_ command: Command) -> Bool {
        switch command.body {
        case .pong, .send: true
        default: self.pacer?.take(self.services.commandRate, now: self.loop.now) ?? true
        }
    }

    // MARK: Answers

    /// Refuses a command that was not begun: another one of the same id may be under way.
    func refuseUnderLoad(_ id: UInt32) {
        self.services.metrics.throttledCommands.increment()
        self.send(id, .error(.tooManyRequests))
    }

    private func send(_ id: UInt32, _ body: ReplyBody) {
        if case .closed = self.phase { return }
        self.transport.send(self.variant.encode(Reply(id: id, body: body)))
    }

    func reply(_ id: UInt32, _ body: ReplyBody) {
        if case .closed = self.phase { return }
        self.send(id, body)
        guard self.underWay.remove(id) != nil, self.underWay.isEmpty, !self.waiting.isEmpty else { return }
        // Later: whoever answers may be in the middle of something that the next command changes.
        self.loop.execute { self.onThisLoop { $0.startWaiting() } }
    }

    func refuse(_ id: UInt32, _ error: FanfareError) {
        self.services.metrics.refusedCommands.increment()
        self.reply(id, .error(error))
    }

    func push(_ push: Push, channel: String) {
        if case .closed = self.phase { return }
        self.transport.send(self.variant.encode(push, channel: channel))
    }

    // MARK: The end

    /// Ends the connection with a code; `end` follows.
    package func close(_ disconnect: Disconnect) {
        if case .closed = self.phase { return }
        self.services.logger.debug(
            "session closed by the server",
            metadata: ["session": "\(self.client)", "user": "\(self.user)", "code": "\(disconnect.code)"])
        self.services.metrics.disconnected(disconnect)
        self.end()
        self.transport.close(disconnect)
    }

    private func end() {
        if case .closed = self.phase { return }
        self.phase = .closed
        self.staleTimer?.cancel()
        self.pingTimer?.cancel()
        self.expiryTimer?.cancel()
        self.quietTimer?.cancel()
        for subscription in self.subscriptions.values {
            subscription.expiry?.cancel()
            self.hub.onThisLoop { $0.unsubscribe(self.client, from: subscription.channel.name) }
        }
        self.subscriptions = [:]
        self.held = []
        self.waiting = Fifo()
        self.inboxHeld = []
        self.inboxHeldBytes = 0
        let user = self.user
        let key = self.userKey
        self.hub.onThisLoop { $0.unregister(self, user: user, key: key) }
        self.services.metrics.sessionClosed()
    }

    /// Connect was answered with an error: the client goes by itself, or is sent away after a while.
    func refuseConnect(_ id: UInt32, _ error: FanfareError) {
        if case .closed = self.phase { return }
        self.refuse(id, error)
        self.phase = .refused
        self.loop.schedule(after: .seconds(5)) {
            self.onThisLoop { $0.close(.connectionClosed) }
        }
    }

    // MARK: Timers

    func connected() {
        self.phase = .connected
        self.staleTimer?.cancel()
        let interval = self.services.limits.pingInterval
        guard interval > .zero else { return }
        // Spread: sessions that came in one storm are not all pinged at once.
        let half = interval.nanoseconds / 2
        let jitter = Int64(self.services.surroundings.random() % UInt64(max(1, half)))
        self.schedulePing(after: .nanoseconds(half + jitter))
    }

    private func schedulePing(after delay: Duration) {
        self.pingTimer = self.loop.schedule(after: delay) { self.onThisLoop { $0.ping() } }
    }

    private func ping() {
        guard case .connected = self.phase else { return }
        self.awaitsPong = true
        self.transport.send(self.variant.ping)
        let limits = self.services.limits
        self.pingTimer = self.loop.schedule(after: limits.pongTime) {
            self.onThisLoop { session in
                guard case .connected = session.phase else { return }
                if session.awaitsPong { return session.close(.noPong) }
                session.schedulePing(after: limits.pingInterval - limits.pongTime)
            }
        }
    }

    func pong() throws(Disconnect) {
        guard self.awaitsPong else { throw .badRequest }
        self.awaitsPong = false
    }

    /// - Parameter expiresAt: seconds since 1970; nil for never.
    /// - Returns: seconds until then, at least 1; nil for never.
    func expire(at expiresAt: Int64?) -> UInt32? {
        self.expiryTimer?.cancel()
        self.expiryTimer = nil
        guard let ttl = self.timeToLive(until: expiresAt) else { return nil }
        self.expiryTimer = self.loop.schedule(after: .seconds(Int64(ttl)) + self.services.limits.expiryGrace) {
            self.onThisLoop { $0.close(.expired) }
        }
        return ttl
    }

    /// Never 0: clients would refresh in a loop.
    func timeToLive(until expiresAt: Int64?) -> UInt32? {
        guard let expiresAt else { return nil }
        let now = self.services.surroundings.wallClock().milliseconds / 1000
        return UInt32(clamping: max(1, expiresAt - now))
    }
}
