import FanfareLoops
import FanfareModel
internal import Glibc

/// What a connection tells the link that owns it; always on the loop.
protocol RedisConnectionOwner: AnyObject, Sendable {
    func opened(_ connection: UInt64)
    /// In order; never empty.
    func received(_ replies: [RedisReply], _ connection: UInt64)
    /// Once, and nothing after it. Not told for `close`.
    func failed(_ failure: LinkFailure, _ connection: UInt64)
}

/// One TCP connection that speaks RESP2. Confined to its loop. What a turn writes leaves in one `send`.
final class RedisConnection: DescriptorHandler, EndOfTurnTask {
    private enum State {
        case idle
        case connecting(CInt)
        case open(CInt)
        case closed
    }

    /// Pieces read before others get their turn.
    private static let readsPerTurn = 16

    /// What the owner knows it by.
    let number: UInt64
    private let loop: EdgeLoop
    private weak var owner: (any RedisConnectionOwner)?
    private var parser: ReplyParser
    private var state: State = .idle
    private var addresses: ArraySlice<SocketAddress> = []
    private var lastFailure = LinkFailure("no address to connect to")

    private var output: Bytes = []
    /// What of `output` was sent.
    private var outputSent = 0
    private var isFlushScheduled = false
    private var isWaitingForWritable = false
    /// Bytes written, and of these bytes sent, since the connection was made.
    private(set) var writtenBytes: UInt64 = 0
    private(set) var sentBytes: UInt64 = 0

    init(
        _ number: UInt64, loop: EdgeLoop, owner: any RedisConnectionOwner, replyByteLimit: Int
    ) throws(ProtocolViolation) {
        self.number = number
        self.loop = loop
        self.owner = owner
        self.parser = try ReplyParser(byteLimit: replyByteLimit)
    }

    /// Tries the addresses one after the other. The caller keeps the time.
    func connect(to addresses: [SocketAddress]) {
        self.addresses = addresses[...]
        self.connectToNext()
    }

    private func connectToNext() {
        while let address = self.addresses.popFirst() {
            let descriptor = socket(address.family, CInt(SOCK_STREAM.rawValue) | Self.socketFlags, 0)
            guard descriptor >= 0 else {
                self.lastFailure = LinkFailure(SystemError("socket").description)
                continue
            }
            self.setOptions(descriptor)
            let result = address.withPointer { Glibc.connect(descriptor, $0, $1) }
            guard result == 0 || errno == EINPROGRESS else {
                self.lastFailure = LinkFailure(SystemError("connect").description)
                Glibc.close(descriptor)
                continue
            }
            do {
                try self.loop.register(descriptor: descriptor, .writable, handler: self)
                self.state = .connecting(descriptor)
                return
            } catch {
                self.lastFailure = LinkFailure(error.description)
                Glibc.close(descriptor)
            }
        }
        self.fail(self.lastFailure)
    }

    private static var socketFlags: CInt {
        CInt(bitPattern: SOCK_NONBLOCK.rawValue) | CInt(bitPattern: SOCK_CLOEXEC.rawValue)
    }

    private func setOptions(_ descriptor: CInt) {
        var on: CInt = 1
        let size = socklen_t(MemoryLayout<CInt>.size)
        setsockopt(descriptor, CInt(IPPROTO_TCP), TCP_NODELAY, &on, size)
        setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, size)
    }

    /// Closes without telling the owner. Harmless when repeated.
    func close() {
        switch self.state {
        case .connecting(let descriptor), .open(let descriptor):
            self.loop.deregister(descriptor: descriptor)
            Glibc.close(descriptor)
        case .idle, .closed: break
        }
        self.state = .closed
        self.output = []
    }

    private func fail(_ failure: LinkFailure) {
        if case .closed = self.state { return }
        self.close()
        self.owner?.failed(failure, self.number)
    }

    // MARK: Ready descriptors

    func ready(readable: Bool, writable: Bool, hangup: Bool) {
        switch self.state {
        case .connecting(let descriptor): self.finishConnecting(descriptor)
        case .open(let descriptor):
            if writable { self.flush() }
            if readable || hangup { self.read(descriptor) }
        case .idle, .closed: break
        }
    }

    private func finishConnecting(_ descriptor: CInt) {
        var number: CInt = 0
        var size = socklen_t(MemoryLayout<CInt>.size)
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &number, &size)
        do {
            guard number == 0 else { throw SystemError("connect", number: number) }
            try self.loop.modify(descriptor: descriptor, .readable)
            self.state = .open(descriptor)
            self.owner?.opened(self.number)
        } catch {
            self.lastFailure = LinkFailure("\(error)")
            self.loop.deregister(descriptor: descriptor)
            Glibc.close(descriptor)
            self.state = .idle
            self.connectToNext()
        }
    }

    private func read(_ descriptor: CInt) {
        for _ in 0..<Self.readsPerTurn {
            guard case .open = self.state else { return }
            let buffer = self.loop.receiveBuffer
            let count = recv(descriptor, buffer.baseAddress, buffer.count, 0)
            if count > 0 {
                guard self.parse(UnsafeRawBufferPointer(rebasing: buffer.prefix(count))) else { return }
                if count < buffer.count { return }
            } else if count == 0 {
                return self.fail(LinkFailure("the server closed the connection"))
            } else if errno == EAGAIN {
                return
            } else if errno != EINTR {
                return self.fail(LinkFailure(SystemError("recv").description))
            }
        }
    }

    /// - Returns: false where the connection is over.
    private func parse(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var replies: [RedisReply] = []
        var violation: ProtocolViolation?
        do { try self.parser.feed(bytes, into: &replies) } catch { violation = error }
        if !replies.isEmpty { self.owner?.received(replies, self.number) }
        guard let violation else { return true }
        self.fail(LinkFailure("protocol violation: \(violation)"))
        return false
    }

    // MARK: Writing

    /// Bytes written that wait to be sent.
    var waitingBytes: Int { self.output.count - self.outputSent }

    func write(_ command: RedisCommand) {
        guard case .open = self.state else { return }
        let before = self.output.count
        command.encode(into: &self.output)
        self.writtenBytes += UInt64(self.output.count - before)
        guard !self.isFlushScheduled, !self.isWaitingForWritable else { return }
        self.isFlushScheduled = true
        self.loop.atEndOfTurn(self)
    }

    func endOfTurn() {
        self.isFlushScheduled = false
        self.flush()
    }

    private func flush() {
        guard case .open(let descriptor) = self.state else { return }
        while self.waitingBytes > 0 {
            let count = self.output.withUnsafeBytes { bytes in
                let rest = UnsafeRawBufferPointer(rebasing: bytes[self.outputSent...])
                return send(descriptor, rest.baseAddress, rest.count, CInt(MSG_NOSIGNAL))
            }
            if count >= 0 {
                self.outputSent += count
                self.sentBytes += UInt64(count)
                if self.outputSent > 1 << 20, self.outputSent * 2 > self.output.count {
                    self.output.removeFirst(self.outputSent)
                    self.outputSent = 0
                }
            } else if errno == EAGAIN {
                return self.wait(forWritable: true, descriptor)
            } else if errno != EINTR {
                return self.fail(LinkFailure(SystemError("send").description))
            }
        }
        // A burst's storage is not kept for ever.
        self.output.removeAll(keepingCapacity: self.output.capacity <= 1 << 20)
        self.outputSent = 0
        if self.isWaitingForWritable { self.wait(forWritable: false, descriptor) }
    }

    private func wait(forWritable: Bool, _ descriptor: CInt) {
        guard forWritable != self.isWaitingForWritable else { return }
        do {
            try self.loop.modify(descriptor: descriptor, forWritable ? [.readable, .writable] : .readable)
            self.isWaitingForWritable = forWritable
        } catch {
            self.fail(LinkFailure(error.description))
        }
    }
}
