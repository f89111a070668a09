import Dispatch
import FanfareModel
import FanfareProtocol
import Glibc
import Testing

/// Runs blocking code on a thread of its own, so that it takes none from the tasks under test.
func onThread<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    let queue = DispatchQueue(label: "client")
    return try await withCheckedThrowingContinuation { continuation in
        queue.async { continuation.resume(with: Swift.Result { try body() }) }
    }
}

struct ClientError: Error { let text: String }

/// A blocking TCP client: every wait ends after ten seconds.
final class TestClient {
    let descriptor: CInt
    private var parser = FrameParser(role: .client, maximumMessageLength: 64 << 20)
    private var events: [FrameParser.Event] = []
    private var unparsed = Bytes()

    init(port: UInt16, receiveBuffer: CInt? = nil) throws {
        self.descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        var timeout = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(self.descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(self.descriptor, SOL_SOCKET, SO_SNDTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        if var receiveBuffer {
            setsockopt(self.descriptor, SOL_SOCKET, SO_RCVBUF, &receiveBuffer, socklen_t(MemoryLayout<CInt>.size))
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(self.descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else { throw ClientError(text: "connect: \(errno)") }
    }

    deinit { close(self.descriptor) }

    func write(_ text: String) throws { try self.write(Bytes(text.utf8)) }

    func write(_ bytes: Bytes) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Glibc.send(self.descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw ClientError(text: "send: \(errno)") }
            rest = rest.dropFirst(count)
        }
    }

    /// - Returns: nothing at the end of the stream.
    func read() throws -> Bytes {
        var buffer = Bytes(repeating: 0, count: 64 << 10)
        let count = recv(self.descriptor, &buffer, buffer.count, 0)
        guard count >= 0 else { throw ClientError(text: "recv: \(errno)") }
        return Bytes(buffer.prefix(count))
    }

    /// Reads up to and with the empty line.
    func readHead() throws -> String {
        let end = Bytes("\r\n\r\n".utf8)
        while true {
            if let index = self.unparsed.indices.first(where: { self.unparsed[$0...].starts(with: end) }) {
                let head = String(decoding: self.unparsed[..<index], as: UTF8.self)
                self.unparsed.removeFirst(index + 4)
                return head
            }
            let bytes = try self.read()
            guard !bytes.isEmpty else { throw ClientError(text: "end of stream") }
            self.unparsed += bytes
        }
    }

    func readBody(_ count: Int) throws -> String {
        while self.unparsed.count < count {
            let bytes = try self.read()
            guard !bytes.isEmpty else { throw ClientError(text: "end of stream") }
            self.unparsed += bytes
        }
        defer { self.unparsed.removeFirst(count) }
        return String(decoding: self.unparsed.prefix(count), as: UTF8.self)
    }

    /// Reads until the peer closes.
    func readToEnd() throws -> String {
        while true {
            let bytes = try self.read()
            guard !bytes.isEmpty else { return String(decoding: self.unparsed, as: UTF8.self) }
            self.unparsed += bytes
        }
    }

    // MARK: WebSocket

    static func handshake(path: String = "/connection/websocket", fields: [String] = []) -> String {
        ([
            "GET \(path) HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ] + fields + ["", ""]).joined(separator: "\r\n")
    }

    /// - Returns: the head of the response.
    @discardableResult
    func open(path: String = "/connection/websocket", fields: [String] = []) throws -> String {
        try self.write(TestClient.handshake(path: path, fields: fields))
        return try self.readHead()
    }

    func send(_ text: String) throws { try self.send(Bytes(text.utf8), isText: true) }

    func send(_ message: Bytes, isText: Bool) throws {
        var frame = Bytes()
        FrameEncoder.append(message: message, isText: isText, maskingKey: 0x1234_5678, to: &frame)
        try self.write(frame)
    }

    func sendClose(_ code: UInt16?) throws {
        var frame = Bytes()
        FrameEncoder.append(closeCode: code, maskingKey: 0x1234_5678, to: &frame)
        try self.write(frame)
    }

    /// - Returns: nil at the end of the stream.
    func event() throws -> FrameParser.Event? {
        while self.events.isEmpty {
            var bytes = self.unparsed
            self.unparsed = []
            if bytes.isEmpty { bytes = try self.read() }
            guard !bytes.isEmpty else { return nil }
            self.events = self.parser.parse(bytes)
        }
        return self.events.removeFirst()
    }

    /// The next message as text.
    func message() throws -> String {
        switch try self.event() {
        case .message(let message, _): return String(decoding: message, as: UTF8.self)
        case let other: throw ClientError(text: "no message but \(String(describing: other))")
        }
    }

    /// Skips messages up to the close frame.
    func closeCode() throws -> UInt16? {
        while let event = try self.event() {
            if case .close(let code, _) = event { return code }
        }
        throw ClientError(text: "end of stream without a close frame")
    }
}
