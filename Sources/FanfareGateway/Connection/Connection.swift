internal import FanfareCore
package import FanfareFabric
internal import FanfareLoops
package import FanfareModel
internal import FanfareProtocol
internal import Glibc

/// A WebSocket connection: socket, frame parser, bounded write queue. What is said over it is the session's affair.
///
/// Used on its loop's thread alone, hence safe to share (`@unchecked`).
package final class Connection: SessionTransport, DescriptorHandler, EndOfTurnTask, @unchecked Sendable {
    private enum Phase {
        case open
        /// A close frame is queued or sent; what arrives is discarded until the peer's close frame or its end.
        case closing
        case closed
    }

    /// The most objects that leave in one message.
    private static let objectsPerMessage = 16
    /// A message is closed when it has grown to this.
    private static let messageBytes = 64 << 10

    let descriptor: CInt
    private let context: LoopContext
    private let variant: ProtocolVariant
    private var phase = Phase.open
    private var handler: (any SessionHandler)?
    private var parser: FrameParser
    private var peerHasClosed = false
    private var queue = WriteQueue()
    /// The message that objects of this turn are gathered in.
    private var message = Bytes()
    private var objectsInMessage = 0
    private var isFlushScheduled = false
    /// The socket takes no more, and the loop tells when it does.
    private var isBlocked = false
    private var lastProgress = MonotonicInstant(nanoseconds: 0)
    private var timer: ScheduledCall?

    init(descriptor: CInt, variant: ProtocolVariant, context: LoopContext) {
        self.descriptor = descriptor
        self.variant = variant
        self.context = context
        self.parser = FrameParser(role: .server, maximumMessageLength: context.options.maximumMessage)
    }

    /// Begins to serve: `greeting` (the handshake's response) goes out first; `rest` came after the handshake's request.
    func open(
        greeting: Bytes, rest: Bytes, handler: (Connection) -> any SessionHandler
    ) throws(SystemError) {
        try self.context.loop.register(descriptor: self.descriptor, .readable, handler: self)
        self.context.add(self)
        self.queue.append(greeting)
        self.scheduleFlush()
        self.handler = handler(self)
        if !rest.isEmpty { rest.withUnsafeBufferPointer { self.parse($0) } }
    }

    // MARK: SessionTransport

    package var queuedBytes: Int { self.queue.byteCount + self.message.count }

    package func send(_ object: Bytes) {
        guard self.hasRoom() else { return }
        if self.objectsInMessage == Connection.objectsPerMessage
            || (self.objectsInMessage > 0 && self.message.count + object.count > Connection.messageBytes)
        {
            self.finishMessage()
        }
        self.variant.append(object: object, to: &self.message)
        self.objectsInMessage += 1
        self.scheduleFlush()
    }

    package func send(_ frame: SharedFrame) {
        guard self.hasRoom() else { return }
        self.finishMessage()
        self.queue.append(frame)
        self.scheduleFlush()
    }

    package func close(_ disconnect: Disconnect) {
        guard self.phase == .open else { return }
        self.finishMessage()
        switch disconnect {
        // Who does not take what is queued would not get to see the close frame behind it.
        case .slow, .writeError: self.queue.dropUnsent()
        default: break
        }
        self.context.metrics.countClosed(code: disconnect.code)
        // 3000 says that the connection is gone already.
        let isSilent = disconnect.code == Disconnect.connectionClosed.code
        self.beginClosing(isSilent ? nil : Connection.closeFrame(disconnect.code, disconnect.reason))
    }

    /// Whether more may be queued. The limit is checked before something is added, not with it: one reply may be larger
    /// than the limit, for example a room's whole history, and must reach a client that reads.
    private func hasRoom() -> Bool {
        guard self.phase == .open else { return false }
        let limit = self.context.options.maximumQueuedBytes
        guard self.queuedBytes > limit else { return true }
        self.finishMessage()
        if !self.isBlocked { self.flush() }
        guard self.phase == .open else { return false }
        guard self.queuedBytes > limit else { return true }
        self.close(.slow)
        return false
    }

    // MARK: Writing

    private func finishMessage() {
        guard self.objectsInMessage > 0 else { return }
        self.queue.append(FrameEncoder.frame(message: self.message, isText: self.variant.isText))
        self.message = []
        self.objectsInMessage = 0
    }

    private func scheduleFlush() {
        guard !self.isFlushScheduled, !self.isBlocked else { return }
        self.isFlushScheduled = true
        self.context.loop.atEndOfTurn(self)
    }

    package func endOfTurn() {
        self.isFlushScheduled = false
        guard self.phase != .closed, !self.isBlocked else { return }
        self.finishMessage()
        self.flush()
    }

    private func flush() {
        let before = self.queue.byteCount
        let progress = self.queue.flush(
            to: self.descriptor, scratch: self.context.scratch, sends: &self.context.traffic.sends)
        self.context.traffic.bytesSent += before - self.queue.byteCount
        switch progress {
        case .drained: self.becameDrained()
        case .blocked(let tookSome): self.becameBlocked(tookSome: tookSome)
        case .failed: self.tearDown()
        }
    }

    private func becameDrained() {
        if self.isBlocked {
            self.isBlocked = false
            self.watch(.readable)
            if self.phase == .open { self.cancelTimer() }
        }
        if self.phase == .closing { self.finishClosingIfDone() }
    }

    private func becameBlocked(tookSome: Bool) {
        if tookSome || !self.isBlocked { self.lastProgress = self.context.loop.now }
        guard !self.isBlocked else { return }
        self.isBlocked = true
        self.watch([.readable, .writable])
        if self.phase == .open { self.watchStall(at: self.lastProgress + self.context.options.writeTimeout) }
    }

    private func watch(_ interest: Interest) {
        do throws(SystemError) {
            try self.context.loop.modify(descriptor: self.descriptor, interest)
        } catch {
            self.tearDown()
        }
    }

    private func watchStall(at deadline: MonotonicInstant) {
        self.cancelTimer()
        self.timer = self.context.loop.schedule(at: deadline) { [weak self] in self?.checkStall() }
    }

    private func checkStall() {
        guard self.phase == .open, self.isBlocked else { return }
        let deadline = self.lastProgress + self.context.options.writeTimeout
        if self.context.loop.now < deadline {
            self.watchStall(at: deadline)
        } else {
            self.close(.writeError)
        }
    }

    private func cancelTimer() {
        self.timer?.cancel()
        self.timer = nil
    }

    // MARK: Reading

    package func ready(readable: Bool, writable: Bool, hangup: Bool) {
        if writable && self.isBlocked {
            self.finishMessage()
            self.flush()
        }
        guard readable || hangup, self.phase != .closed else { return }
        let buffer = self.context.loop.receiveBuffer
        let count = recv(self.descriptor, buffer.baseAddress, buffer.count, 0)
        if count > 0 {
            self.context.traffic.bytesReceived += count
            self.parse(UnsafeBufferPointer(rebasing: buffer.bindMemory(to: UInt8.self)[..<count]))
        } else if count == 0 || (errno != EAGAIN && errno != EINTR) {
            self.tearDown()
        }
    }

    private func parse(_ bytes: UnsafeBufferPointer<UInt8>) {
        var events: [FrameParser.Event] = []
        self.parser.parse(bytes, into: &events)
        for event in events where self.phase != .closed { self.handle(event) }
    }

    private func handle(_ event: FrameParser.Event) {
        switch event {
        case .message(let message, let isText):
            guard self.phase == .open else { return }
            self.context.traffic.messagesReceived += 1
            self.handler?.received(message, isText: isText)
        case .ping(let payload):
            guard self.hasRoom() else { return }
            self.finishMessage()
            var frame = Bytes()
            FrameEncoder.append(pong: payload, to: &frame)
            self.queue.append(frame)
            self.scheduleFlush()
        case .pong: break
        case .close(let code, _):
            self.peerHasClosed = true
            switch self.phase {
            case .open:
                self.finishMessage()
                self.beginClosing(Connection.closeFrame(code, ""))
            case .closing: self.finishClosingIfDone()
            case .closed: break
            }
        case .violation(let code): self.close(Disconnect(code: code, reason: ""))
        }
    }

    private static func closeFrame(_ code: UInt16?, _ reason: String) -> Bytes {
        var frame = Bytes()
        FrameEncoder.append(closeCode: code, reason: reason, to: &frame)
        return frame
    }

    // MARK: Closing

    private func beginClosing(_ frame: Bytes?) {
        self.phase = .closing
        self.endSession()
        self.cancelTimer()
        if let frame {
            self.queue.append(frame)
        } else {
            self.peerHasClosed = true
        }
        let deadline = self.context.loop.now + self.context.options.closeTimeout
        self.timer = self.context.loop.schedule(at: deadline) { [weak self] in self?.tearDown() }
        self.flush()
    }

    private func finishClosingIfDone() {
        guard self.peerHasClosed, self.queue.isEmpty else { return }
        self.tearDown()
    }

    /// Tells the session later: it may be in the middle of sending.
    private func endSession() {
        guard let handler = self.handler.take() else { return }
        self.context.loop.execute { handler.closed() }
    }

    private func tearDown() {
        guard self.phase != .closed else { return }
        self.phase = .closed
        self.cancelTimer()
        self.endSession()
        self.queue = WriteQueue()
        self.message = []
        self.context.loop.deregister(descriptor: self.descriptor)
        self.context.removeConnection(self.descriptor)
        Glibc.close(self.descriptor)
        self.context.admission.endConnection()
    }
}
