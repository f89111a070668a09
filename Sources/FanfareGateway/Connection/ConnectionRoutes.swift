package import FanfareFabric
internal import FanfareModel
internal import FanfareProtocol

/// Makes the session of a new connection; called on the connection's loop.
package typealias SessionFactory = @Sendable (any SessionTransport, SessionOpening) -> any SessionHandler

/// Where connections go.
package struct ConnectionRoutes: Sendable {
    /// The path of WebSocket connections; nil takes every path.
    package var webSocketPath: String?
    /// Gets everything else; nil, and there is nothing else.
    package var http: HTTPFrontDoor?
    package var makeSession: SessionFactory

    package init(
        webSocketPath: String? = "/connection/websocket", http: HTTPFrontDoor?, makeSession: @escaping SessionFactory
    ) {
        self.webSocketPath = webSocketPath
        self.http = http
        self.makeSession = makeSession
    }

    enum Destination: Hashable {
        case webSocket
        case http
        /// Too few bytes to tell.
        case undecided
    }

    private var prefix: String { "GET " + (self.webSocketPath ?? "") }

    /// How many bytes of a request tell where it goes, at the most.
    var longestPrefix: Int { self.prefix.utf8.count + 1 }

    /// Judges a request by its first bytes. A target in another form than the plain path goes to the HTTP server, which
    /// refuses it.
    func destination(of bytes: UnsafeRawBufferPointer) -> Destination {
        let prefix = self.prefix.utf8
        guard bytes.elementsEqual(prefix.prefix(bytes.count)) || bytes.starts(with: prefix) else { return .http }
        guard bytes.count > prefix.count else { return .undecided }
        switch bytes[prefix.count] {
        case UInt8(ascii: " "), UInt8(ascii: "?"): return .webSocket
        default: return .http
        }
    }

    /// - Throws: the status to refuse with.
    func accept(_ head: HTTPRequestHead, allowedOrigins: [String]) throws(HTTPStatus) -> AcceptedHandshake {
        if let path = self.webSocketPath, head.path != path { throw .notFound }
        let upgrade = try Handshake.upgrade(head)
        let host = head.headers["host"] ?? ""
        guard Handshake.isOriginAllowed(head.headers["origin"], host: host, allowed: allowedOrigins) else {
            throw .forbidden
        }
        let (variant, subprotocol) = Handshake.negotiate(upgrade, head)
        return AcceptedHandshake(variant: variant, response: upgrade.response(subprotocol: subprotocol))
    }
}

struct AcceptedHandshake: Hashable, Sendable {
    let variant: ProtocolVariant
    /// The 101 response.
    let response: Bytes
}
