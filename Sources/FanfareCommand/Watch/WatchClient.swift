import FanfareCore
import FanfareModel
import FanfareProtocol
import NIOCore
import NIOPosix

/// Follows a channel over WebSocket, and comes back after every break.
package struct WatchClient: Sendable {
    private let address: ServerAddress
    private let channel: String
    private let token: String?

    /// How long connecting, the upgrade and the subscription may take together.
    private static let openingTime: Duration = .seconds(10)
    /// A server that pings is given up when it is silent this much longer than its interval.
    private static let silence: Duration = .seconds(10)
    private static let maximumMessage = 16 << 20

    package init(address: ServerAddress, channel: String, token: String?) {
        self.address = address
        self.channel = channel
        self.token = token
    }

    private enum End: Error {
        case reconnect(String)
        case fail(CommandError)
    }

    /// Runs until it fails for good or the task is cancelled.
    /// - Parameters:
    ///   - publish: called for each publication, in order.
    ///   - note: called with what happens otherwise.
    /// - Throws: what makes no sense to try again, and a first connection that cannot be made.
    package func run(
        publish: @Sendable (WatchSession.Watched) -> Void, note: @Sendable (String) -> Void
    ) async throws(CommandError) -> Never {
        var session = WatchSession(channel: self.channel, token: self.token)
        let backoff = Backoff(base: .milliseconds(300), cap: .seconds(10))
        var attempt = 0
        var wasSubscribed = false
        while true {
            do {
                try await self.connect(&session, publish: publish, note: note) {
                    if attempt > 0 { note("connected again") }
                    attempt = 0
                    wasSubscribed = true
                }
            } catch {
                switch error {
                case .fail(let error): throw error
                case .reconnect(let reason):
                    guard wasSubscribed || attempt < 3 else { throw CommandError(reason) }
                    note("\(reason); trying again")
                }
            }
            let delay = backoff.delay(attempt: attempt, random: UInt64.random(in: .min ... .max))
            attempt += 1
            do {
                try await Task.sleep(for: delay)
            } catch {
                throw CommandError("cancelled")
            }
        }
    }

    /// One connection, to its end, which is always an error.
    private func connect(
        _ session: inout WatchSession, publish: (WatchSession.Watched) -> Void, note: (String) -> Void,
        subscribed: () -> Void
    ) async throws(End) {
        do {
            let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(.nanoseconds(WatchClient.openingTime.nanoseconds))
                .connect(host: self.address.host, port: self.address.port) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                    }
                }
            // `executeThenClose` takes a sendable closure: the session goes in and comes out as a value.
            let present = session
            let end = try await channel.executeThenClose { inbound, outbound in
                var conversation = Conversation(
                    session: present, address: self.address, channel: channel.channel, outbound: outbound)
                let end = await conversation.run(inbound, publish: publish, note: note, subscribed: subscribed)
                return (end, conversation.session)
            }
            session = end.1
            throw end.0
        } catch let end as End {
            throw end
        } catch {
            throw .reconnect("cannot reach \(self.address.description): \(HTTPExchange.reason(error))")
        }
    }

    private struct Conversation {
        var session: WatchSession
        let address: ServerAddress
        let channel: any NIOCore.Channel
        let outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
        private var parser = FrameParser(role: .client, maximumMessageLength: WatchClient.maximumMessage)
        private var patience: Scheduled<Void>?
        private var silenceLimit: Duration?

        init(
            session: WatchSession, address: ServerAddress, channel: any NIOCore.Channel,
            outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
        ) {
            self.session = session
            self.address = address
            self.channel = channel
            self.outbound = outbound
        }

        mutating func run(
            _ inbound: NIOAsyncChannelInboundStream<ByteBuffer>, publish: (WatchSession.Watched) -> Void,
            note: (String) -> Void, subscribed: () -> Void
        ) async -> End {
            defer { self.patience?.cancel() }
            self.wait(WatchClient.openingTime)
            var generator = SystemRandomNumberGenerator()
            var handshake: ClientHandshake? = ClientHandshake(
                host: self.address.authority, target: self.address.basePath + "/connection/websocket",
                nonce: (0..<16).map { _ in UInt8.random(in: 0...255, using: &generator) })
            do {
                if let handshake { try await self.outbound.write(ByteBuffer(bytes: handshake.request)) }
                for try await buffer in inbound {
                    var bytes = Bytes(buffer.readableBytesView)
                    if handshake != nil {
                        switch handshake?.feed(bytes) {
                        case .accepted(_, let rest):
                            handshake = nil
                            try await self.send(self.session.connected())
                            bytes = rest
                        case .refused(let status): return WatchClient.refused(status)
                        case .malformed: return .fail(CommandError("\(self.address.description) speaks no HTTP"))
                        case .needsMore, nil: continue
                        }
                    }
                    if let silenceLimit { self.wait(silenceLimit) }
                    for event in self.parser.parse(bytes) {
                        if let end = try await self.handle(event, publish, note, subscribed) { return end }
                    }
                }
                return .reconnect("the connection broke, or the server was silent for too long")
            } catch {
                return .reconnect("the connection broke: \(HTTPExchange.reason(error))")
            }
        }

        private mutating func handle(
            _ event: FrameParser.Event, _ publish: (WatchSession.Watched) -> Void, _ note: (String) -> Void,
            _ subscribed: () -> Void
        ) async throws -> End? {
            var actions: [WatchSession.Action] = []
            switch event {
            case .message(let message, _): actions = self.session.received(message)
            case .ping(let payload):
                var frame = Bytes()
                FrameEncoder.append(pong: payload, maskingKey: UInt32.random(in: 0...(.max)), to: &frame)
                try await self.outbound.write(ByteBuffer(bytes: frame))
            case .pong: break
            case .close(let code, let reason): actions = [self.session.closed(code: code, reason: reason)]
            case .violation: return .reconnect("the server broke the WebSocket protocol")
            }
            for action in actions {
                switch action {
                case .send(let message): try await self.send(message)
                case .publication(let publication): publish(publication)
                case .note(let text): note(text)
                case .subscribed(let pingInterval):
                    subscribed()
                    self.patience?.cancel()
                    self.silenceLimit = pingInterval.map { $0 + WatchClient.silence }
                    if let silenceLimit { self.wait(silenceLimit) }
                case .reconnect(let reason): return .reconnect(reason)
                case .fail(let reason): return .fail(CommandError(reason))
                }
            }
            return nil
        }

        private func send(_ message: Bytes) async throws {
            var frame = Bytes()
            FrameEncoder.append(
                message: message, isText: true, maskingKey: UInt32.random(in: 0...(.max)), to: &frame)
            try await self.outbound.write(ByteBuffer(bytes: frame))
        }

        /// The connection is closed unless something comes within this time.
        private mutating func wait(_ time: Duration) {
            self.patience?.cancel()
            let channel = self.channel
            self.patience = channel.eventLoop.scheduleTask(in: .nanoseconds(time.nanoseconds)) {
                channel.close(promise: nil)
            }
        }
    }

    private static func refused(_ status: Int) -> End {
        switch status {
        case 429, 500...: .reconnect("the server answered the upgrade with HTTP status \(status)")
        default:
            .fail(CommandError("the server answered the upgrade with HTTP status \(status): is it a Fanfare node?"))
        }
    }
}
