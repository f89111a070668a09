import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareProtocol

extension Session {
    func connect(id: UInt32, _ request: ConnectRequest) {
        self.phase = .connecting
        guard !request.token.isEmpty else {
            return self.authenticated(id: id, request, VerifiedToken(user: .anonymous))
        }
        if let token = self.services.tokens.cachedConnection(request.token) {
            return self.authenticated(id: id, request, token)
        }
        self.loop.task {
            do throws(TokenFailure) {
                let token = try await self.services.tokens.verifyConnection(request.token)
                guard case .connecting = self.phase else { return }
                self.authenticated(id: id, request, token)
            } catch {
                guard case .connecting = self.phase else { return }
                self.services.metrics.authenticationFailures.increment()
                switch error {
                case .expired: self.refuseConnect(id, .tokenExpired)
                case .invalid: self.close(.invalidToken)
                }
            }
        }
    }

    private func authenticated(id: UInt32, _ request: ConnectRequest, _ token: VerifiedToken) {
        self.user = token.user
        self.role = token.role
        self.info = token.info
        guard token.channels.count + (token.user.isAnonymous ? 0 : 1) <= self.services.limits.channels else {
            return self.close(.channelLimit)
        }
        if token.user.isAnonymous, token.channels.isEmpty {
            return self.answerConnect(id: id, token, subs: [:])
        }
        self.loop.task { await self.subscribeByServer(id: id, request, token) }
    }

    /// The user's own channel and the token's: all before connect is answered, and no push before the answer.
    private func subscribeByServer(id: UInt32, _ request: ConnectRequest, _ token: VerifiedToken) async {
        var subs: [String: SubscribeResult] = [:]
        let gate = GatedTransport(
            self.transport, limit: self.services.limits.heldBytes, metrics: self.services.metrics)
        if !self.user.isAnonymous {
            let channel = Channel.user(self.user)
            // First reachable for pushes, then the position is read: nothing falls between the two.
            let user = self.user
            self.hub.onThisLoop { $0.register(self, user: user) }
            await self.goOnline()
            guard case .connecting = self.phase else { return }
            self.lastSerial += 1
            self.subscriptions[channel.name] = Subscription(
                channel: channel, serial: self.lastSerial, isServerSide: true, isActive: true)
            subs[channel.name] = await self.openInbox(recovery: request.subs[channel.name])
        }
        for name in token.channels where self.subscriptions[name] == nil {
            guard case .connecting = self.phase else { return }
            guard let channel = try? Channel(name), ChannelRules.maySubscribe(self.user, to: channel) else { continue }
            if case .user = channel.kind { continue }
            let recovery = request.subs[name].flatMap {
                $0.recover ? StreamPosition(offset: $0.offset, epoch: $0.epoch) : nil
            }
            let result = await withCheckedContinuation { continuation in
                self.attach(channel, transport: gate, recovery: recovery, isServerSide: true, channelInfo: []) {
                    continuation.resume(returning: $0)
                }
            }
            guard case .connecting = self.phase else { return }
            switch result {
            case .success(let outcome): subs[name] = SubscribeResult(outcome, recovery: recovery)
            case .failure(let error): return self.refuseConnect(id, error)
            }
        }
        guard case .connecting = self.phase else { return }
        self.answerConnect(id: id, token, subs: subs)
        gate.open()
        self.deliverHeldInbox()
    }

    private func answerConnect(id: UInt32, _ token: VerifiedToken, subs: [String: SubscribeResult]) {
        let ttl = self.expire(at: token.expiresAt)
        let limits = self.services.limits
        self.reply(
            id,
            .connect(
                ConnectResult(
                    client: self.client, version: self.services.version, expires: ttl != nil, ttl: ttl ?? 0, subs: subs,
                    ping: UInt32(clamping: limits.pingInterval.components.seconds), pong: limits.pingInterval > .zero)))
        self.connected()
        let held = self.held
        self.held = []
        do throws(Disconnect) {
            for command in held {
                try self.handle(command)
                if case .closed = self.phase { return }
            }
        } catch {
            self.close(error)
        }
    }

    func refresh(id: UInt32, token: String) {
        guard !self.user.isAnonymous else { return self.close(.badRequest) }
        self.loop.task {
            do throws(TokenFailure) {
                let verified = try await self.services.tokens.verifyConnection(token)
                guard case .connected = self.phase else { return }
                guard verified.user == self.user else { return self.close(.invalidToken) }
                self.role = verified.role
                let ttl = self.expire(at: verified.expiresAt)
                self.reply(
                    id,
                    .refresh(client: self.client, version: self.services.version, expires: ttl != nil, ttl: ttl ?? 0))
            } catch {
                self.close(error == .expired ? .expired : .invalidToken)
            }
        }
    }
}

extension SubscribeResult {
    /// What a subscriber of a stream is told (centrifuge protocol, 9.3): the requested offset where it was recovered, else
    /// the stream's.
    init(_ outcome: SubscribeOutcome, recovery: StreamPosition?) {
        let isRecovered = outcome.recovered != nil
        self.init(
            recoverable: true, epoch: outcome.position.epoch, publications: outcome.recovered ?? [],
            recovered: isRecovered, offset: isRecovered ? recovery?.offset ?? 0 : outcome.position.offset,
            positioned: true, wasRecovering: recovery != nil)
    }
}

/// Holds what rooms write until the session has answered connect. Confined to the connection's loop.
final class GatedTransport: SessionTransport, @unchecked Sendable {
    // Safe: like every transport it is used on its connection's loop alone.
    private let transport: any SessionTransport
    private var held: [SharedFrame] = []
    private var heldBytes = 0
    private let limit: Int
    private let metrics: FabricMetrics
    private var isOpen = false
    private var isOverrun = false

    init(_ transport: any SessionTransport, limit: Int, metrics: FabricMetrics) {
        self.transport = transport
        self.limit = limit
        self.metrics = metrics
    }

    func send(_ object: Bytes) { self.transport.send(object) }

    func send(_ frame: SharedFrame) {
        guard !self.isOpen else { return self.transport.send(frame) }
        guard !self.isOverrun else { return }
        guard self.heldBytes + frame.bytes.count <= self.limit else {
            self.isOverrun = true
            self.held = []
            self.metrics.publicationsOverrun.increment()
            return self.close(.slow)
        }
        self.heldBytes += frame.bytes.count
        self.held.append(frame)
    }

    func close(_ disconnect: Disconnect) { self.transport.close(disconnect) }
    var queuedBytes: Int { self.transport.queuedBytes }

    func open() {
        self.isOpen = true
        for frame in self.held { self.transport.send(frame) }
        self.held = []
        self.heldBytes = 0
    }
}

extension Session {
    /// The server API prolongs or ends the connection.
    func refreshByServer(_ refresh: SessionRefresh) {
        guard case .connected = self.phase else { return }
        switch refresh {
        case .expired: self.close(.expired)
        case .until(let expiresAt):
            let ttl = self.expire(at: expiresAt)
            self.push(.refresh(expires: ttl != nil, ttl: ttl ?? 0), channel: "")
        }
    }
}
