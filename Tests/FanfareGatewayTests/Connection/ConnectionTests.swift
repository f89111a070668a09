import FanfareCore
import FanfareFabric
import FanfareGateway
import FanfareModel
import FanfareProtocol
import Testing

@Suite struct ConnectionTests {
    @Test func carriesMessagesBothWays() async throws {
        let gateway = try await TestGateway()
        try await gateway.run { (client) throws in
            let head = try client.open()
            #expect(head.hasPrefix("HTTP/1.1 101 "))
            #expect(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
            #expect(!head.lowercased().contains("sec-websocket-protocol"))
            for text in ["a", "größer", String(repeating: "x", count: 70_000)] {
                try client.send(text)
                #expect(try client.message() == text)
            }
            try client.sendClose(1000)
            #expect(try client.closeCode() == 1000)
            #expect(try client.read().isEmpty)
        }
        try await gateway.eventually { gateway.sessions.first?.closes == 1 && gateway.listener.connectionCount == 0 }
        #expect(gateway.sessions[0].opening.remoteAddress == "127.0.0.1")
        await gateway.stop()
        #expect(gateway.sessions[0].closes == 1)
    }

    @Test func takesAHandshakeByteByByteWithFramesBehindIt() async throws {
        let gateway = try await TestGateway()
        try await gateway.run { (client) throws in
            for byte in TestClient.handshake().utf8.dropLast(1) { try client.write([byte]) }
            var rest = Bytes("\n".utf8)
            FrameEncoder.append(message: Bytes("early".utf8), isText: true, maskingKey: 7, to: &rest)
            try client.write(rest)
            #expect(try client.readHead().hasPrefix("HTTP/1.1 101 "))
            #expect(try client.message() == "early")
        }
        await gateway.stop()
    }

    @Test(
        arguments: [
            ([], "", nil, ProtocolVariant.json),
            (["Sec-WebSocket-Protocol: centrifuge-json"], "", "centrifuge-json", .json),
            (["Sec-WebSocket-Protocol: centrifuge-protobuf"], "", "centrifuge-protobuf", .protobuf),
            (["Sec-WebSocket-Protocol: other"], "", nil, .json), ([], "?format=protobuf", nil, .protobuf),
        ] as [([String], String, String?, ProtocolVariant)])
    func negotiatesTheVariant(
        fields: [String], query: String, subprotocol: String?, variant: ProtocolVariant
    ) async throws {
        let gateway = try await TestGateway()
        try await gateway.run { (client) throws in
            let head = try client.open(path: "/connection/websocket" + query, fields: fields)
            #expect(head.contains("Sec-WebSocket-Protocol: \(subprotocol ?? "")") == (subprotocol != nil))
            // An object in its framing: a line, or a length and its bytes.
            try client.send("ab")
            #expect(
                try client.event() == .message(variant == .json ? [97, 98] : [2, 97, 98], isText: variant == .json))
        }
        #expect(gateway.sessions[0].opening.variant == variant)
        await gateway.stop()
    }

    @Test(arguments: [
        ("GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET /connection/websocket HTTP/1.1\r\n\r\n", 400),
        ("GET /connection/websocket nonsense\r\n\r\n", 400),
        (TestClient.handshake().replacing("Version: 13", with: "Version: 8"), 426),
        (TestClient.handshake(fields: ["Origin: https://elsewhere.example"]), 403),
        (TestClient.handshake(fields: ["X: " + String(repeating: "x", count: 20_000)]), 431),
    ])
    func refusesBadHandshakes(request: String, status: Int) async throws {
        let gateway = try await TestGateway()
        try await gateway.run { (client) throws in
            try client.write(request)
            #expect(try client.readToEnd().hasPrefix("HTTP/1.1 \(status) "))
        }
        #expect(gateway.sessions.isEmpty)
        await gateway.stop()
    }

    @Test func allowsTheOriginsThatWereNamed() async throws {
        var options = ConnectionOptions()
        options.allowedOrigins = ["https://app.example"]
        let gateway = try await TestGateway(options: options)
        for origin in ["https://app.example", "http://localhost"] {
            try await gateway.run { (client) throws in
                #expect(try client.open(fields: ["Origin: \(origin)"]).hasPrefix("HTTP/1.1 101 "))
            }
        }
        await gateway.stop()
    }

    @Test func handsEverythingElseToTheHTTPServer() async throws {
        let gateway = try await TestGateway()
        for path in ["/", "/api/info", "/connection/websockets", "/connection/web"] {
            try await gateway.run { (client) throws in
                // Twice on one connection: it stays with the HTTP server.
                for _ in 0..<2 {
                    try client.write("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    #expect(try client.readHead().hasPrefix("HTTP/1.1 200 "))
                    #expect(try client.readBody(5 + path.utf8.count) == "path " + path)
                }
            }
        }
        // The first bytes tell nothing yet.
        try await gateway.run { (client) throws in
            for byte in "GET /connection/webxyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".utf8 {
                try client.write([byte])
            }
            #expect(try client.readToEnd().hasSuffix("path /connection/webxyz"))
        }
        #expect(gateway.sessions.isEmpty)
        await gateway.stop()
    }

    @Test func joinsTheObjectsOfATurnInOrder() async throws {
        let gateway = try await TestGateway { session, _ in
            for number in 0..<40 {
                session.transport.send(Bytes(String(number).utf8))
                guard number == 19 else { continue }
                let frame = FrameEncoder.frame(message: Bytes("shared".utf8), isText: true)
                session.transport.send(SharedFrame(bytes: frame, publications: 1))
            }
        }
        let messages = try await gateway.run { (client) throws in
            try client.open()
            try client.send("go")
            return try (0..<5).map { _ in try client.message() }
        }
        let lines = messages.map { $0.split(separator: "\n").map(String.init) }
        #expect(lines.map(\.count) == [16, 4, 1, 16, 4])
        #expect(lines.joined().filter { $0 != "shared" } == (0..<40).map(String.init))
        #expect(lines[2] == ["shared"])
        await gateway.stop()
    }

    @Test func answersPings() async throws {
        let gateway = try await TestGateway()
        try await gateway.run { (client) throws in
            try client.open()
            var ping = Bytes()
            FrameEncoder.append(ping: Bytes("are you there".utf8), maskingKey: 9, to: &ping)
            try client.write(ping)
            #expect(try client.event() == .pong(Bytes("are you there".utf8)))
        }
        await gateway.stop()
    }

    @Test(
        arguments: [
            ([0x81, 0x01, 0x61], 1002),
            ([0x83, 0x80, 0, 0, 0, 0], 1002),
            ([0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
            ([0x82, 0xff, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0], 1009),
        ] as [(Bytes, UInt16)])
    func closesOnViolations(frame: Bytes, code: UInt16) async throws {
        let gateway = try await TestGateway()
        try await gateway.run { (client) throws in
            try client.open()
            try client.write(frame)
            #expect(try client.closeCode() == code)
        }
        try await gateway.eventually { gateway.sessions[0].closes == 1 && gateway.listener.connectionCount == 0 }
        await gateway.stop()
    }

    @Test func sendsWhatIsQueuedBeforeTheCloseFrame() async throws {
        let gateway = try await TestGateway { session, _ in
            session.transport.send(Bytes("last words".utf8))
            session.transport.close(.forced)
            session.transport.send(Bytes("too late".utf8))
            session.transport.close(.shutdown)
        }
        try await gateway.run { (client) throws in
            try client.open()
            try client.send("go")
            #expect(try client.message() == "last words")
            #expect(try client.event() == .close(code: 3503, reason: "force disconnect"))
            try client.sendClose(3503)
            #expect(try client.event() == nil)
        }
        try await gateway.eventually { gateway.listener.connectionCount == 0 }
        #expect(gateway.sessions[0].closes == 1)
        await gateway.stop()
    }

    @Test func doesNotWaitForEverForTheCloseFrameToBeAnswered() async throws {
        var options = ConnectionOptions()
        options.closeTimeout = .milliseconds(50)
        let gateway = try await TestGateway(options: options) { session, _ in session.transport.close(.stale) }
        try await gateway.run { (client) throws in
            try client.open()
            try client.send("go")
            #expect(try client.closeCode() == 3502)
            #expect(try client.event() == nil)
        }
        // The peer sees the end a moment before the loop has counted it.
        try await gateway.eventually { gateway.listener.connectionCount == 0 }
        await gateway.stop()
    }

    @Test func aLostPeerEndsTheSession() async throws {
        let gateway = try await TestGateway()
        try await gateway.run { (client) throws in _ = try client.open() }
        try await gateway.eventually { gateway.sessions.first?.closes == 1 && gateway.listener.connectionCount == 0 }
        await gateway.stop()
    }

    @Test func stoppingClosesWithShutdown() async throws {
        let gateway = try await TestGateway()
        let port = gateway.port
        async let code = gateway.run { (client) throws in
            try client.open()
            return try client.closeCode()
        }
        try await gateway.eventually { gateway.listener.connectionCount == 1 }
        await gateway.listener.stop()
        #expect(try await code == 3001)
        await #expect(throws: ClientError.self) { try await onThread { _ = try TestClient(port: port) } }
        await gateway.stop()
    }
}
