internal import CEpoll
internal import FanfareCore
internal import FanfareFabric
internal import FanfareLoops
internal import FanfareModel
internal import FanfareProtocol
internal import Glibc

/// A connection whose first bytes tell where it belongs: a WebSocket handshake stays on the loop, everything else goes
/// to the HTTP server, unread.
///
/// Used on its loop's thread alone, hence safe to share (`@unchecked`).
final class ArrivingConnection: DescriptorHandler, @unchecked Sendable {
    private enum Phase {
        case peeking
        case readingHead
        /// The answer is sent; waits for the peer to take it.
        case refused
        case gone
    }

    let descriptor: CInt
    private let peer: PeerAddress
    private let context: LoopContext
    private let routes: ConnectionRoutes
    private var phase: Phase
    private var parser: HTTPHeadParser
    private var timer: ScheduledCall?

    init(descriptor: CInt, routes: ConnectionRoutes, context: LoopContext) {
        self.descriptor = descriptor
        self.peer = Socket.peer(of: descriptor)
        self.routes = routes
        self.context = context
        self.parser = HTTPHeadParser(maximumLength: context.options.maximumRequestHead)
        self.phase = routes.http == nil ? .readingHead : .peeking
    }

    /// Begins to wait for the request.
    func start() {
        let loop = self.context.loop
        do throws(SystemError) {
            // Peeking leaves the bytes where they are: only an edge tells that there are more.
            try loop.register(
                descriptor: self.descriptor, self.phase == .peeking ? [.readable, .edgeTriggered] : .readable,
                handler: self)
        } catch {
            self.context.admission.endPending()
            close(self.descriptor)
            return
        }
        self.context.add(self)
        self.timer = loop.schedule(after: self.context.options.handshakeTimeout) { [weak self] in
            guard let self else { return }
            if self.phase == .readingHead { self.refuse(.requestTimeout) } else { self.abandon() }
        }
    }

    func ready(readable: Bool, writable: Bool, hangup: Bool) {
        switch self.phase {
        case .peeking: self.peek()
        case .readingHead: self.read()
        case .refused: self.discard()
        case .gone: break
        }
    }

    // MARK: Deciding

    private func peek() {
        let buffer = self.context.loop.receiveBuffer
        let count = recv(self.descriptor, buffer.baseAddress, self.routes.longestPrefix, fanfare_peek_flags)
        guard count > 0 else {
            if count == 0 || (errno != EAGAIN && errno != EINTR) { self.abandon() }
            return
        }
        switch self.routes.destination(of: UnsafeRawBufferPointer(rebasing: buffer[..<count])) {
        case .undecided: break
        case .http: self.handOver()
        case .webSocket:
            self.phase = .readingHead
            do throws(SystemError) {
                try self.context.loop.modify(descriptor: self.descriptor, .readable)
            } catch {
                self.abandon()
            }
        }
    }

    private func handOver() {
        guard let http = self.routes.http else { return self.abandon() }
        guard self.context.admission.beginHTTP() else {
            self.context.metrics.count(.httpFull)
            return self.refuse(.unavailable, retryAfterSeconds: 1)
        }
        self.leave()
        let admission = self.context.admission
        http.accept(HTTPFrontDoor.HandedSocket(descriptor: self.descriptor) { admission.endHTTP() })
    }

    // MARK: Handshake

    private func read() {
        let buffer = self.context.loop.receiveBuffer
        let count = recv(self.descriptor, buffer.baseAddress, buffer.count, 0)
        guard count > 0 else {
            if count == 0 || (errno != EAGAIN && errno != EINTR) { self.abandon() }
            return
        }
        switch self.parser.feed(UnsafeBufferPointer(rebasing: buffer.bindMemory(to: UInt8.self)[..<count])) {
        case .needsMore: break
        case .failure(let status):
            self.context.metrics.count(.badRequest)
            self.refuse(status)
        case .complete(let head, let rest): self.shakeHands(head, rest: rest)
        }
    }

    private func shakeHands(_ head: HTTPRequestHead, rest: Bytes) {
        let accepted: AcceptedHandshake
        do throws(HTTPStatus) {
            accepted = try self.routes.accept(head, allowedOrigins: self.context.options.allowedOrigins)
        } catch {
            self.context.metrics.count(error == .forbidden ? .origin : .badRequest)
            return self.refuse(error)
        }
        switch self.context.admission.beginConnection(from: self.peer, now: self.context.loop.now) {
        case .admitted: break
        case .full:
            self.context.metrics.count(.full)
            return self.refuse(.unavailable, retryAfterSeconds: 5)
        case .tooOften(let seconds):
            self.context.metrics.count(.tooOften)
            return self.refuse(.tooManyRequests, retryAfterSeconds: seconds)
        }
        self.leave()
        self.context.metrics.countOpened()
        self.open(accepted, rest: rest)
    }
}

// MARK: - Ends

extension ArrivingConnection {
    private func open(_ accepted: AcceptedHandshake, rest: Bytes) {
        let connection = Connection(descriptor: self.descriptor, variant: accepted.variant, context: self.context)
        do throws(SystemError) {
            try connection.open(greeting: accepted.response, rest: rest) { connection in
                self.routes.makeSession(
                    connection,
                    SessionOpening(
                        variant: accepted.variant, remoteAddress: self.peer.text, isLocal: self.peer.isLoopback,
                        loop: self.context.loop))
            }
        } catch {
            self.context.admission.endConnection()
            close(self.descriptor)
        }
    }

    /// The descriptor goes to someone else.
    private func leave() {
        self.phase = .gone
        self.timer?.cancel()
        self.timer = nil
        self.context.loop.deregister(descriptor: self.descriptor)
        self.context.removeArriving(self.descriptor)
        self.context.admission.endPending()
    }

    /// Closes without a word.
    func abandon() {
        guard self.phase != .gone else { return }
        self.leave()
        close(self.descriptor)
    }

    /// Answers, and closes when the peer has taken the answer: closing with unread bytes would reset the connection and
    /// could destroy the answer on its way.
    private func refuse(_ status: HTTPStatus, retryAfterSeconds: Int? = nil) {
        let response = status.response(retryAfterSeconds: retryAfterSeconds)
        let sent = response.withUnsafeBytes { bytes in
            send(self.descriptor, bytes.baseAddress, bytes.count, fanfare_send_flags)
        }
        guard sent == response.count else { return self.abandon() }
        shutdown(self.descriptor, CInt(SHUT_WR))
        self.phase = .refused
        self.timer?.cancel()
        self.timer = self.context.loop.schedule(after: .seconds(1)) { [weak self] in self?.abandon() }
        do throws(SystemError) {
            try self.context.loop.modify(descriptor: self.descriptor, .readable)
        } catch {
            self.abandon()
        }
    }

    private func discard() {
        let buffer = self.context.loop.receiveBuffer
        let count = recv(self.descriptor, buffer.baseAddress, buffer.count, 0)
        if count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR) { self.abandon() }
    }
}
