import Glibc
import Synchronization

/// A redis-server of a test's own, on a free loopback port, with its data in a folder that goes with it.
package final class RedisServer: Sendable {
    package let port: Int
    private let folder: String
    private let options: [String]
    private let process = Mutex<GuardedProcess?>(nil)

    package var url: String { "redis://127.0.0.1:\(self.port)" }

    /// Starts the server and waits until it answers.
    /// - Parameters:
    ///   - keepsData: writes every command to disk before it is acknowledged, so that a crash loses nothing.
    ///   - options: further command line options.
    package init(keepsData: Bool = false, options: [String] = []) throws(EngineFailure) {
        self.port = try PrivateServer.freePort()
        self.folder = try PrivateServer.makeFolder("redis")
        self.options =
            ["--save", "", "--appendonly", keepsData ? "yes" : "no", "--appendfsync", "always"] + options
        try self.start()
    }

    deinit {
        self.process.withLock { $0.take() }?.end()
        PrivateServer.removeFolder(self.folder)
    }

    /// Starts it again after `kill`, on the same port with the same folder.
    package func start() throws(EngineFailure) {
        let process = try GuardedProcess(
            ["redis-server", "--port", String(self.port), "--bind", "127.0.0.1", "--dir", self.folder] + self.options,
            folder: self.folder)
        self.process.withLock { $0 = process }
        for _ in 0..<5000 {
            // One that wants a password refuses, which is an answer too.
            do { if try self.command("PING") == "PONG" { return } } catch  where error.description.hasPrefix("NOAUTH") {
                return
            } catch {}
            usleep(2000)
        }
        throw EngineFailure("redis-server does not answer on port \(self.port)")
    }

    /// As if it had crashed (SIGKILL).
    package func kill() { self.process.withLock { $0.take() }?.end() }

    package func restart() throws(EngineFailure) {
        self.kill()
        try self.start()
    }

    /// Stops it for good.
    package func stop() { self.kill() }

    /// Silent, with its sockets open (SIGSTOP).
    package func pause() { self.process.withLock { $0?.signal(SIGSTOP) } }
    package func resume() { self.process.withLock { $0?.signal(SIGCONT) } }

    /// Runs a command on a connection of its own and returns the reply as text; arrays as lines.
    package func command(_ words: String...) throws(EngineFailure) -> String {
        guard let descriptor = PrivateServer.connect(port: self.port) else {
            throw EngineFailure("nobody listens on port \(self.port)")
        }
        defer { close(descriptor) }
        var request = "*\(words.count)\r\n"
        for word in words { request += "$\(word.utf8.count)\r\n\(word)\r\n" }
        let bytes = Array(request.utf8)
        guard send(descriptor, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count else {
            throw EngineFailure("send: errno \(errno)")
        }
        var reader = ReplyReader(descriptor: descriptor)
        return try reader.reply()
    }
}

/// Reads one reply, blocking.
private struct ReplyReader {
    let descriptor: CInt
    private var buffer: ArraySlice<UInt8> = []

    init(descriptor: CInt) { self.descriptor = descriptor }

    mutating func reply() throws(EngineFailure) -> String {
        let line = try self.line()
        let count = Int(line.dropFirst()) ?? 0
        switch line.first {
        case "$":
            guard count >= 0 else { return "nil" }
            let text = String(decoding: try self.take(count), as: UTF8.self)
            _ = try self.take(2)
            return text
        case "*":
            var elements: [String] = []
            for _ in 0..<max(0, count) { elements.append(try self.reply()) }
            return elements.joined(separator: "\n")
        case "-": throw EngineFailure(String(line.dropFirst()))
        default: return String(line.dropFirst())
        }
    }

    private mutating func line() throws(EngineFailure) -> String {
        while true {
            if let end = self.buffer.firstIndex(of: UInt8(ascii: "\r")), end + 1 < self.buffer.endIndex {
                defer { self.buffer = self.buffer[(end + 2)...] }
                return String(decoding: self.buffer[..<end], as: UTF8.self)
            }
            try self.fill()
        }
    }

    private mutating func take(_ count: Int) throws(EngineFailure) -> ArraySlice<UInt8> {
        while self.buffer.count < count { try self.fill() }
        defer { self.buffer = self.buffer.dropFirst(count) }
        return self.buffer.prefix(count)
    }

    private mutating func fill() throws(EngineFailure) {
        var piece = [UInt8](repeating: 0, count: 16 * 1024)
        let count = recv(self.descriptor, &piece, piece.count, 0)
        guard count > 0 else { throw EngineFailure("the server closed the connection, or did not answer") }
        self.buffer = ArraySlice(Array(self.buffer) + piece.prefix(count))
    }
}
