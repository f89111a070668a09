internal import FanfareModel
internal import NIOCore
internal import NIOPosix

/// A plain http URL, and the simplest client that can read a small document from it.
package struct HTTPLocation: Sendable, Hashable {
    let host: String
    let port: Int
    let path: String

    /// - Returns: nil where it is no http URL.
    package init?(_ text: String) {
        guard text.hasPrefix("http://"), text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else { return nil }
        let rest = text.dropFirst("http://".count)
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        let path = rest.dropFirst(authority.count)
        self.path = path.isEmpty ? "/" : path.hasPrefix("/") ? String(path) : "/" + path
        guard !authority.contains("@") else { return nil }
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { return nil }
            self.host = String(authority[authority.index(after: authority.startIndex)..<end])
            let tail = authority[authority.index(after: end)...]
            guard tail.isEmpty || tail.hasPrefix(":"), let port = Int(tail.isEmpty ? "80" : tail.dropFirst()) else {
                return nil
            }
            self.port = port
        } else {
            let parts = authority.split(separator: ":", omittingEmptySubsequences: false)
            guard (1...2).contains(parts.count), let port = parts.count == 2 ? Int(parts[1]) : 80 else { return nil }
            self.host = String(parts[0])
            self.port = port
        }
        guard !self.host.isEmpty, (1...65535).contains(self.port) else { return nil }
    }

    /// Reads the document: one attempt, five seconds, no redirects.
    func get(maximumLength: Int) async throws(KeySourceError) -> Bytes {
        let request =
            "GET \(self.path) HTTP/1.0\r\nHost: \(self.host):\(self.port)\r\nAccept: application/json\r\n"
            + "Connection: close\r\n\r\n"
        let response: Bytes
        do {
            let collector = ResponseCollector(maximumLength: maximumLength + (32 << 10))
            let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .connectTimeout(.seconds(5))
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(collector) }
                }
                .connect(host: self.host, port: self.port).get()
            let deadline = channel.eventLoop.scheduleTask(in: .seconds(5)) { channel.close(promise: nil) }
            defer { deadline.cancel() }
            try await channel.writeAndFlush(ByteBuffer(string: request))
            try await channel.closeFuture.get()
            response = try await channel.eventLoop.submit { collector.bytes }.get()
        } catch {
            throw KeySourceError("\(self.host):\(self.port) cannot be reached")
        }
        return try HTTPLocation.body(of: response, maximumLength: maximumLength)
    }

    static func body(of response: Bytes, maximumLength: Int) throws(KeySourceError) -> Bytes {
        let separator = Bytes("\r\n\r\n".utf8)
        guard let headEnd = response.indices.first(where: { response[$0...].starts(with: separator) }) else {
            throw KeySourceError("the key server's answer is no HTTP")
        }
        let lines = String(decoding: response[..<headEnd], as: UTF8.self).split(separator: "\r\n")
        let status = (lines.first ?? "").split(separator: " ")
        guard status.count >= 2, status[0].hasPrefix("HTTP/1."), status[1] == "200" else {
            throw KeySourceError("the key server answers \(lines.first ?? "nothing")")
        }
        var body = response[(headEnd + separator.count)...]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2, parts[0].lowercased() == "content-length" else { continue }
            guard let length = Int(parts[1].filter { $0 != " " && $0 != "\t" }), length >= 0, length <= body.count
            else {
                throw KeySourceError("the key server's answer is cut off")
            }
            body = body.prefix(length)
        }
        guard body.count <= maximumLength else { throw KeySourceError("the key server's answer is too long") }
        return Bytes(body)
    }
}

/// Gathers what arrives until the peer closes.
///
/// Used on its channel's event loop alone, hence safe to share (`@unchecked`).
private final class ResponseCollector: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    private let maximumLength: Int
    private(set) var bytes = Bytes()

    init(maximumLength: Int) { self.maximumLength = maximumLength }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.bytes.append(contentsOf: self.unwrapInboundIn(data).readableBytesView)
        if self.bytes.count > self.maximumLength { context.close(promise: nil) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
