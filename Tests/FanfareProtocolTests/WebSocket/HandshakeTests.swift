import FanfareModel
import Testing

@testable import FanfareProtocol

@Suite struct HandshakeTests {
    static let good = [
        "GET /connection/websocket HTTP/1.1", "Host: fanfare.example:8000", "Upgrade: websocket",
        "Connection: keep-alive, Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
    ]

    static func bytes(_ lines: [String]) -> Bytes { Bytes(text: lines.joined(separator: "\r\n") + "\r\n\r\n") }

    static func head(_ lines: [String]) throws(HTTPStatus) -> HTTPRequestHead {
        var parser = HTTPHeadParser()
        switch parser.feed(self.bytes(lines)) {
        case .complete(let head, _): return head
        case .failure(let status): throw status
        case .needsMore: throw .requestTimeout
        }
    }

    /// The good request with one line replaced, or left out.
    static func changed(_ prefix: String, _ line: String?) -> [String] {
        self.good.compactMap { $0.hasPrefix(prefix) ? line : $0 }
    }

    @Test func acceptsTheSampleOfTheStandard() throws {
        #expect(Handshake.accept(key: "dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        let upgrade = try Handshake.upgrade(Self.head(Self.good))
        #expect(
            upgrade.response(subprotocol: nil).text
                == "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
        #expect(upgrade.response(subprotocol: "x").text.contains("\r\nSec-WebSocket-Protocol: x\r\n\r\n"))
    }

    /// FIPS 180, and around the block's length.
    @Test(arguments: [
        ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"), ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1"
        ),
        (String(repeating: "a", count: 64), "0098ba824b5c16427bd7a1122a5a442a25ec644d"),
        (String(repeating: "a", count: 1_000_000), "34aa973cd4c4daa4f61eeb2bdbad27316534016f"),
    ]) func sha1(message: String, digest: String) {
        let hexadecimal = SHA1.hash(Bytes(text: message)).map { byte in
            let text = String(byte, radix: 16)
            return text.utf8.count == 1 ? "0" + text : text
        }
        #expect(hexadecimal.joined() == digest)
    }

    @Test(arguments: [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ]) func base64(text: String, encoded: String) { #expect(Base64.encode(Bytes(text: text)) == encoded) }

    static let verdicts: [(lines: [String], status: HTTPStatus?)] = [
        (good, nil), (changed("Connection", "connection: UPGRADE"), nil),
        (changed("Upgrade", "UPGRADE:WebSocket "), nil),
        (good + ["Content-Length: 0"], nil), (changed("GET", "GET http://h/connection/websocket HTTP/1.1"), nil),
        (changed("GET", "POST / HTTP/1.1"), .methodNotAllowed),
        (changed("GET", "GET / HTTP/1.0"), .versionNotSupported),
        (changed("GET", "GET / HTTP/2"), .versionNotSupported), (changed("GET", "GET /"), .badRequest),
        (changed("GET", "GET  / HTTP/1.1"), .badRequest), (changed("GET", "GET x HTTP/1.1"), .badRequest),
        (changed("GET", "GET /%zz HTTP/1.1"), .badRequest), (changed("GET", "GET /%ff HTTP/1.1"), .badRequest),
        (changed("GET", "G(T / HTTP/1.1"), .badRequest), (changed("GET", "GET / FTP/1.1"), .badRequest),
        (changed("Host", nil), .badRequest), (good + ["Host: b"], .badRequest), (changed("Upgrade", nil), .badRequest),
        (changed("Upgrade", "Upgrade: h2c"), .badRequest), (changed("Connection", nil), .badRequest),
        (changed("Connection", "Connection: close"), .badRequest),
        (changed("Sec-WebSocket-Version", nil), .upgradeRequired),
        (changed("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), .upgradeRequired),
        (changed("Sec-WebSocket-Key", nil), .badRequest),
        (changed("Sec-WebSocket-Key", "Sec-WebSocket-Key: x"), .badRequest),
        (changed("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"), .badRequest),
        (changed("Sec-WebSocket-Key", "Sec-WebSocket-Key: !GhlIHNhbXBsZSBub25jZQ=="), .badRequest),
        (good + ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], .badRequest),
        (good + ["Content-Length: 5"], .badRequest), (good + ["Transfer-Encoding: chunked"], .badRequest),
        (good + ["X : y"], .badRequest), (good + [" folded"], .badRequest), (good + ["nothing"], .badRequest),
        (good + [": x"], .badRequest),
        (good + ["X: a\u{0}b"], .badRequest), (good + ["X: a\nb"], .badRequest), (good + ["X: a\rb"], .badRequest),
        (good + (0..<100).map { "X-\($0): y" }, .headersTooLarge),
        (good + ["X: " + String(repeating: "y", count: 16 * 1024)], .headersTooLarge),
    ]

    @Test(arguments: verdicts) func judges(lines: [String], status: HTTPStatus?) {
        do {
            _ = try Handshake.upgrade(Self.head(lines))
            #expect(status == nil, "\(lines)")
        } catch {
            #expect(error == status, "\(lines)")
        }
    }

    @Test func readsHeadInPieces() throws {
        let bytes = Self.bytes(Self.good)
        for cut in 0..<bytes.count {
            var parser = HTTPHeadParser()
            guard case .needsMore = parser.feed(Bytes(bytes[..<cut])) else {
                Issue.record("complete after \(cut) bytes")
                return
            }
            guard case .complete(let head, let rest) = parser.feed(Bytes(bytes[cut...]) + [0x81, 0x80]) else {
                Issue.record("not complete when cut at \(cut)")
                return
            }
            #expect(head.headers["host"] == "fanfare.example:8000")
            #expect(rest == [0x81, 0x80])
        }
        // What never ends is refused at the limit.
        var parser = HTTPHeadParser(maximumLength: 100)
        guard case .needsMore = parser.feed(Bytes(repeating: 0x61, count: 100)) else {
            Issue.record("refused too early")
            return
        }
        guard case .failure(.headersTooLarge) = parser.feed([0x61]) else {
            Issue.record("not refused")
            return
        }
    }

    @Test func readsTarget() throws {
        let head = try Self.head(["GET /rooms/a%20b/events?format=protobuf&x=%C3%A9+1&y&z=%zz&=v HTTP/1.1", "Host: h"])
        #expect(head.method == "GET")
        #expect(head.path == "/rooms/a b/events")
        #expect(head.queryItems.map(\.name) == ["format", "x", "y", ""])
        #expect(head.query("x") == "é 1")
        #expect(head.query("y")?.isEmpty == true)
        #expect(head.query("z") == nil)
    }

    @Test(
        arguments: [
            (nil, "", ProtocolVariant.json, nil), ("centrifuge-json", "", .json, "centrifuge-json"),
            ("centrifuge-protobuf", "", .protobuf, "centrifuge-protobuf"),
            ("centrifuge-json, centrifuge-protobuf", "", .json, "centrifuge-json"),
            ("x,centrifuge-protobuf ,centrifuge-json", "", .protobuf, "centrifuge-protobuf"), ("x", "", .json, nil),
            (nil, "?format=protobuf", .protobuf, nil), (nil, "?cf_protocol=protobuf", .protobuf, nil),
            (nil, "?format=json&cf_protocol=x", .json, nil), ("x", "?a=b&format=protobuf", .protobuf, nil),
        ] as [(String?, String, ProtocolVariant, String?)])
    func negotiates(offer: String?, query: String, variant: ProtocolVariant, subprotocol: String?) throws {
        var lines = Self.changed("GET", "GET /connection/websocket\(query) HTTP/1.1")
        if let offer { lines.append("Sec-WebSocket-Protocol: \(offer)") }
        let head = try Self.head(lines)
        let choice = try Handshake.negotiate(Handshake.upgrade(head), head)
        #expect(choice.variant == variant)
        #expect(choice.subprotocol == subprotocol)
    }

    @Test(
        arguments: [
            (nil, "h", [], true), ("http://h", "h", [], true), ("http://H:8000", "h:8000", [], true),
            ("https://h", "h:443", [], true),
            ("http://h:80", "h", [], true), ("http://h", "h:8000", [], false), ("http://evil", "h", [], false),
            ("http://h.evil", "h", [], false), ("null", "h", [], false), ("h", "h", [], false),
            ("http://", "", [], false),
            ("null", "h", ["*"], true), ("https://app.example", "h", ["https://app.example"], true),
            ("http://app.example", "h", ["https://app.example"], false),
            ("https://a.b.example", "h", ["https://*.example"], true),
            ("https://evil/.example", "h", ["https://*.example"], false),
            ("https://.example", "h", ["https://*.example"], false),
            ("https://a.example.evil", "h", ["https://*.example"], false),
            ("http://localhost:3000", "h", ["http://localhost:*"], true),
        ] as [(String?, String, [String], Bool)])
    func checksOrigin(origin: String?, host: String, allowed: [String], isAllowed: Bool) {
        #expect(Handshake.isOriginAllowed(origin, host: host, allowed: allowed) == isAllowed)
    }

    @Test func refusals() {
        let busy = HTTPStatus.tooManyRequests.response(retryAfterSeconds: 7).text
        #expect(busy.hasPrefix("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nConnection: close\r\n"))
        #expect(HTTPStatus.methodNotAllowed.response().text.contains("\r\nAllow: GET\r\n"))
        #expect(HTTPStatus.upgradeRequired.response().text.contains("\r\nSec-WebSocket-Version: 13\r\n"))
        #expect(HTTPStatus.notFound.response(text: "nö").text.hasSuffix("\r\nContent-Length: 4\r\n\r\nnö\n"))
    }

    @Test func clientAndServerAgree() throws {
        var client = ClientHandshake(
            host: "h", target: "/connection/websocket", nonce: Bytes(0..<16), subprotocols: ["centrifuge-protobuf"],
            headers: [("Authorization", "x")])
        var parser = HTTPHeadParser()
        guard case .complete(let head, let rest) = parser.feed(client.request) else {
            Issue.record("request is not complete")
            return
        }
        #expect(rest.isEmpty)
        #expect(head.headers["authorization"] == "x")
        let upgrade = try Handshake.upgrade(head)
        let choice = Handshake.negotiate(upgrade, head)
        let response = upgrade.response(subprotocol: choice.subprotocol)
        guard case .needsMore = client.feed(Bytes(response.prefix(30))),
            case .accepted("centrifuge-protobuf", rest: [1, 2]) = client.feed(Bytes(response.dropFirst(30)) + [1, 2])
        else {
            Issue.record("client does not accept")
            return
        }
        var other = ClientHandshake(host: "h", target: "/", nonce: Bytes(1..<17))
        guard case .refused(status: 101) = other.feed(response) else {
            Issue.record("accepted for another key")
            return
        }
        var refused = ClientHandshake(host: "h", target: "/", nonce: Bytes(0..<16))
        guard case .refused(status: 503) = refused.feed(HTTPStatus.unavailable.response()) else {
            Issue.record("503 is no acceptance")
            return
        }
        var confused = ClientHandshake(host: "h", target: "/", nonce: Bytes(0..<16))
        guard case .malformed = confused.feed(Bytes(text: "SMTP ready\r\n\r\n")) else {
            Issue.record("no HTTP")
            return
        }
    }

    @Test func survivesFuzzing() {
        let corpus = Self.verdicts.map { Self.bytes($0.lines) }.filter { $0.count < 2000 }
        let failure = Fuzzing.run("handshakes", corpus: corpus) { input, _ in
            func outcome(_ chunks: [Bytes]) -> String {
                var parser = HTTPHeadParser(maximumLength: 600)
                var rest = Bytes()
                var result = "more"
                for chunk in chunks {
                    guard result == "more" else {
                        rest += chunk
                        continue
                    }
                    switch parser.feed(chunk) {
                    case .needsMore: break
                    case .failure(let status): return "failure \(status)"
                    case .complete(let head, let first):
                        _ = try? Handshake.upgrade(head)
                        result = "\(head)"
                        rest = first
                    }
                }
                return "\(result) \(rest)"
            }
            return outcome([input]) == outcome(input.map { [$0] })
        }
        #expect(failure == nil)
    }
}
