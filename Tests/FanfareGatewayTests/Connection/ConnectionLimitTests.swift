import FanfareCore
import FanfareFabric
import FanfareGateway
import FanfareModel
import FanfareProtocol
import Testing

@Suite struct ConnectionLimitTests {
    /// Sends on and on, one object a turn, until the connection is cut.
    private static func flood(_ session: RecordingSession, bytes: Int) {
        guard session.closes == 0 else { return }
        session.transport.send(Bytes(repeating: UInt8(ascii: "x"), count: bytes))
        session.opening.loop.execute { flood(session, bytes: bytes) }
    }

    @Test func aClientThatDoesNotReadIsCutAsSlow() async throws {
        var options = ConnectionOptions()
        options.maximumQueuedBytes = 64 << 10
        let gateway = try await TestGateway(options: options) { session, _ in Self.flood(session, bytes: 10_000) }
        let port = gateway.port
        let code = try await onThread {
            let client = try TestClient(port: port, receiveBuffer: 4096)
            try client.open()
            try client.send("go")
            // Reads only when the gateway has given up on it.
            while gateway.sessions[0].closes == 0 {}
            return try client.closeCode()
        }
        #expect(code == 3008)
        try await gateway.eventually { gateway.listener.connectionCount == 0 }
        #expect(gateway.sessions[0].closes == 1)
        await gateway.stop()
    }

    @Test func aClientThatTakesNothingIsCutAfterTheWriteTimeout() async throws {
        var options = ConnectionOptions()
        options.maximumQueuedBytes = 64 << 20
        options.writeTimeout = .milliseconds(100)
        let gateway = try await TestGateway(options: options) { session, _ in
            session.transport.send(Bytes(repeating: UInt8(ascii: "x"), count: 32 << 20))
        }
        let port = gateway.port
        try await onThread {
            let client = try TestClient(port: port, receiveBuffer: 4096)
            try client.open()
            try client.send("go")
            while gateway.sessions[0].closes == 0 {}
        }
        try await gateway.eventually { gateway.listener.connectionCount == 0 }
        await gateway.stop()
    }

    /// One reply may be larger than the limit: a client that reads gets it.
    @Test func aReplyBeyondTheLimitReachesAClientThatReads() async throws {
        var options = ConnectionOptions()
        options.maximumQueuedBytes = 64 << 10
        let size = 8 << 20
        let gateway = try await TestGateway(options: options) { session, _ in
            session.transport.send(Bytes(repeating: UInt8(ascii: "x"), count: size))
        }
        try await gateway.run { (client) throws in
            try client.open()
            for _ in 0..<3 {
                try client.send("go")
                #expect(try client.message().utf8.count == size)
            }
        }
        await gateway.stop()
    }

    @Test func connectionsBeyondTheLimitAreRefused() async throws {
        var options = ConnectionOptions()
        options.maximumConnections = 2
        let gateway = try await TestGateway(options: options)
        let port = gateway.port
        try await onThread {
            var clients: [TestClient] = []
            for _ in 0..<2 {
                let client = try TestClient(port: port)
                #expect(try client.open().hasPrefix("HTTP/1.1 101 "))
                clients.append(client)
            }
            let refused = try TestClient(port: port)
            let head = try refused.open()
            #expect(head.hasPrefix("HTTP/1.1 503 "))
            #expect(head.contains("Retry-After: "))
        }
        // Places come free again.
        try await gateway.eventually { gateway.listener.connectionCount == 0 }
        try await gateway.run { (client) throws in #expect(try client.open().hasPrefix("HTTP/1.1 101 ")) }
        await gateway.stop()
    }

    @Test func anAddressThatConnectsTooOftenIsToldToWait() async throws {
        var options = ConnectionOptions()
        options.loopbackIsFree = false
        options.connectsPerAddress = 0.1
        options.connectBurstPerAddress = 2
        let gateway = try await TestGateway(options: options)
        for _ in 0..<2 {
            try await gateway.run { (client) throws in #expect(try client.open().hasPrefix("HTTP/1.1 101 ")) }
        }
        try await gateway.run { (client) throws in
            let head = try client.open()
            #expect(head.hasPrefix("HTTP/1.1 429 "))
            #expect(head.contains("Retry-After: "))
        }
        await gateway.stop()
    }

    @Test func silenceBeforeTheRequestIsBounded() async throws {
        var options = ConnectionOptions()
        options.handshakeTimeout = .milliseconds(50)
        let gateway = try await TestGateway(options: options)
        try await gateway.run { (client) throws in #expect(try client.readToEnd() == "") }
        try await gateway.run { (client) throws in
            try client.write("GET /connection/websocket HTTP/1.1\r\nHost: ")
            #expect(try client.readToEnd().hasPrefix("HTTP/1.1 408 "))
        }
        await gateway.stop()
    }
}
