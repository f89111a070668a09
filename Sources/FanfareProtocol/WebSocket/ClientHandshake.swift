package import FanfareModel

/// The opening handshake from the client's side, for Fanfare's own command line.
package struct ClientHandshake: Sendable {
    package enum Progress: Sendable {
        case needsMore
        /// The connection is open. `rest` are the first bytes of frames.
        case accepted(subprotocol: String?, rest: Bytes)
        /// The server answered with another status, or not as RFC 6455, 4.1 demands (status 101).
        case refused(status: Int)
        /// The answer is no HTTP.
        case malformed
    }

    /// What to send.
    package let request: Bytes
    private let key: String
    private let subprotocols: [String]
    private var parser = HTTPHeadParser()

    /// - Parameters:
    ///   - target: Path and query, percent-encoded.
    ///   - nonce: Sixteen random bytes, fresh for every connection.
    ///   - headers: Further fields; without line breaks.
    package init(
        host: String, target: String, nonce: Bytes, subprotocols: [String] = [],
        headers: [(name: String, value: String)] = []
    ) {
        self.key = Base64.encode(nonce)
        self.subprotocols = subprotocols
        var head = "GET \(target) HTTP/1.1\r\nHost: \(host)\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += "Sec-WebSocket-Key: \(self.key)\r\nSec-WebSocket-Version: 13\r\n"
        if !subprotocols.isEmpty { head += "Sec-WebSocket-Protocol: \(subprotocols.joined(separator: ", "))\r\n" }
        for header in headers { head += "\(header.name): \(header.value)\r\n" }
        self.request = Bytes((head + "\r\n").utf8)
    }

    /// Takes the bytes of the answer as they come.
    package mutating func feed(_ chunk: Bytes) -> Progress {
        do {
            guard let answer = try self.parser.feedResponse(chunk) else { return .needsMore }
            let headers = answer.headers
            let subprotocol = headers["sec-websocket-protocol"]
            guard answer.status == HTTPStatus.switchingProtocols.rawValue,
                headers["upgrade"]?.lowercased() == "websocket",
                headers.list("connection").contains(where: { $0.lowercased() == "upgrade" }),
                headers["sec-websocket-accept"] == Handshake.accept(key: self.key),
                subprotocol.map(self.subprotocols.contains) ?? true
            else { return .refused(status: answer.status) }
            return .accepted(subprotocol: subprotocol, rest: answer.rest)
        } catch {
            return .malformed
        }
    }
}
