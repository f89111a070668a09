import FanfareGateway
import FanfareLoops
import FanfareModel
import FanfareProtocol
import Logging
import Testing

@Suite struct EchoTests {
    @Test func echoesOnEveryPathWithoutAnHTTPServer() async throws {
        let group = try EdgeLoopGroup(count: 1)
        let routes = ConnectionRoutes(webSocketPath: nil, http: nil) { transport, _ in EchoHandler(transport: transport)
        }
        let listener = Listener(group: group, routes: routes, logger: Logger(label: "test"))
        let port = try await listener.start(host: "localhost", port: 0)
        try await onThread {
            let client = try TestClient(port: port)
            try client.open(path: "/any")
            try client.send(Bytes([0, 0xff, 1]), isText: false)
            #expect(try client.event() == .message([0, 0xff, 1], isText: false))
            try client.send("text")
            #expect(try client.event() == .message(Bytes("text".utf8), isText: true))
            // Fragments, with a ping between them.
            try client.write([0x01, 0x81, 0, 0, 0, 0, 0x61])
            var ping = Bytes()
            FrameEncoder.append(ping: [], maskingKey: 1, to: &ping)
            try client.write(ping)
            try client.write([0x80, 0x81, 0, 0, 0, 0, 0x62])
            #expect(try client.event() == .pong([]))
            #expect(try client.event() == .message(Bytes("ab".utf8), isText: true))
        }
        await listener.stop()
        try await onThread { group.stop() }
    }
}
