package import FanfareModel

/// The opening handshake (RFC 6455, 4) from the server's side. Decides nothing about paths and admission.
package enum Handshake {
    /// A request that may be answered with 101.
    package struct Upgrade: Hashable, Sendable {
        /// What the client offered, in its order.
        package var offeredSubprotocols: [String]
        package var key: String

        /// The whole 101 response.
        /// - Parameter subprotocol: One of those offered, or nil.
        package func response(subprotocol: String?) -> Bytes {
            var head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            head += "Sec-WebSocket-Accept: \(Handshake.accept(key: self.key))\r\n"
            if let subprotocol { head += "Sec-WebSocket-Protocol: \(subprotocol)\r\n" }
            return Bytes((head + "\r\n").utf8)
        }
    }

    /// Judges a request for a WebSocket.
    /// - Throws: The status to answer with: 405 for another method than GET, 426 for another version, 400 for all else.
    package static func upgrade(_ request: HTTPRequestHead) throws(HTTPStatus) -> Upgrade {
        guard request.method == "GET" else { throw .methodNotAllowed }
        let headers = request.headers
        guard headers.values("host").count == 1, self.isUpgrade(request) else { throw .badRequest }
        // A body would be read as frames.
        guard headers["transfer-encoding"] == nil, headers.values("content-length").allSatisfy({ $0 == "0" }) else {
            throw .badRequest
        }
        guard headers.values("sec-websocket-version") == ["13"] else { throw .upgradeRequired }
        let keys = headers.values("sec-websocket-key")
        guard keys.count == 1, Base64.isSixteenBytes(keys[0]) else { throw .badRequest }
        return Upgrade(offeredSubprotocols: headers.list("sec-websocket-protocol"), key: keys[0])
    }

    /// Whether the request asks for a WebSocket at all, well or badly.
    package static func isUpgrade(_ request: HTTPRequestHead) -> Bool {
        request.headers.list("upgrade").contains { $0.lowercased() == "websocket" }
            && request.headers.list("connection").contains { $0.lowercased() == "upgrade" }
    }

    /// The value of `Sec-WebSocket-Accept` (RFC 6455, 4.2.2).
    package static func accept(key: String) -> String {
        Base64.encode(SHA1.hash(Bytes((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)))
    }

    /// The first of the offered subprotocols that is known.
    package static func choose(offered: [String], known: [String]) -> String? { offered.first { known.contains($0) } }

    /// Which protocol a connection to `/connection/websocket` speaks, and which subprotocol the response names: JSON
    /// unless protobuf was asked for by subprotocol or by query. A subprotocol that is not served is not named.
    package static func negotiate(
        _ upgrade: Upgrade, _ request: HTTPRequestHead
    ) -> (variant: ProtocolVariant, subprotocol: String?) {
        let subprotocol = self.choose(
            offered: upgrade.offeredSubprotocols, known: ["centrifuge-json", "centrifuge-protobuf"])
        let isProtobuf =
            subprotocol == "centrifuge-protobuf" || request.query("format") == "protobuf"
            || request.query("cf_protocol") == "protobuf"
        return (isProtobuf ? .protobuf : .json, subprotocol)
    }

    /// Whether a page of that origin may connect.
    /// - Parameters:
    ///   - origin: The `Origin` field; nil, as from anything but a browser, is accepted.
    ///   - host: The `Host` field, which the origin's must equal.
    ///   - allowed: Further origins: exact (`https://app.example`), with `*` for any run of letters, digits, `-` and `.`
    ///     (`https://*.example`), or `*` for all.
    package static func isOriginAllowed(_ origin: String?, host: String, allowed: [String]) -> Bool {
        guard let origin = origin?.lowercased() else { return true }
        for pattern in allowed where self.matches(Bytes(origin.utf8), pattern: Bytes(pattern.lowercased().utf8)) {
            return true
        }
        guard let colon = origin.firstIndex(of: ":"), origin[colon...].hasPrefix("://") else { return false }
        let scheme = origin[..<colon]
        let port = scheme == "https" ? ":443" : ":80"
        func normal(_ host: String) -> String { host.hasSuffix(port) ? String(host.dropLast(port.count)) : host }
        let originHost = normal(String(origin[colon...].dropFirst(3)))
        return !originHost.isEmpty && originHost == normal(host.lowercased())
    }

    /// One `*` at the most counts as a wildcard, so that matching is linear.
    private static func matches(_ origin: Bytes, pattern: Bytes) -> Bool {
        if pattern == [UInt8(ascii: "*")] { return true }
        guard let star = pattern.firstIndex(of: UInt8(ascii: "*")) else { return origin == pattern }
        let prefix = pattern[..<star]
        let suffix = pattern[(star + 1)...]
        guard origin.count > prefix.count + suffix.count, origin.starts(with: prefix),
            origin.suffix(suffix.count).elementsEqual(suffix)
        else { return false }
        return origin.dropFirst(prefix.count).dropLast(suffix.count).allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
                UInt8(ascii: "."):
                true
            default: false
            }
        }
    }
}
