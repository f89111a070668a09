import FanfareCore
import FanfareEngines
import FanfareFabric
import FanfareGateway
import FanfareLoops
import FanfareModel
import FanfareProtocol
import Hummingbird
import Logging
import NIOPosix
import Testing

/// A whole node on the in-memory broker, without a database, behind its port.
final class TestNode: Sendable {
    static let apiKey = "a key"
    let group: EdgeLoopGroup
    let node: Node
    let listener: Listener
    let port: UInt16
    private let door: HTTPFrontDoor
    private let frontDoor: Task<Void, Never>

    init(isReady: Bool = true, apiKey: String = TestNode.apiKey) async throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let group = try EdgeLoopGroup(count: 2)
        let hub = MemoryHub(clock: { EdgeLoop.now })
        let surroundings = Surroundings(
            wallClock: { Timestamp(milliseconds: 1_800_000_000_000) }, random: { UInt64.random(in: 0...UInt64.max) })
        let authenticator = try await Authenticator(
            Authenticator.Options(secret: Bytes(SigningKeys.secret.utf8)), wallClock: surroundings.wallClock,
            now: { EdgeLoop.now }, logger: logger)
        let name = NodeID("test")
        let node = Node(
            NodeConfiguration(name: name, version: "1.2.3"), loops: group.loops,
            broker: MemoryBroker(node: name, hub: hub, loop: group.loops[0]), store: nil, tokens: authenticator,
            surroundings: surroundings, logger: logger
        ) { node, method, data, caller async throws(FanfareError) in
            try await MethodRouter(operations: node).callRemote(method, data, by: caller)
        }
        let router = GatewayRouter(context: GatewayRequestContext.self)
        ServerAPI(methods: MethodRouter(operations: node), key: APIKey(apiKey)).addRoutes(to: router)
        HealthRoutes(
            readiness: {
                Readiness(parts: [
                    .init(name: "broker", state: "ok", isReady: true),
                    .init(name: "delivery", state: isReady ? "ok" : "failed", problem: "silent", isReady: isReady),
                ])
            }, metrics: { Bytes("# nothing\n".utf8) }
        ).addRoutes(to: router)
        let door = HTTPFrontDoor(router: router, group: .singleton, logger: logger)
        self.group = group
        self.node = node
        self.door = door
        self.listener = Listener(
            group: group, routes: ConnectionRoutes(http: door) { node.makeSession($0, $1) }, logger: logger)
        node.start()
        self.port = try await self.listener.start(host: "127.0.0.1", port: 0)
        self.frontDoor = Task { await door.run() }
        for _ in 0..<5000 where node.map.view == nil { await group.loops[0].sleep(for: .milliseconds(2)) }
        #expect(node.map.view != nil)
    }

    func stop() async {
        await self.node.drain(within: .milliseconds(10))
        await self.listener.stop()
        self.door.finish()
        self.frontDoor.cancel()
        await self.frontDoor.value
    }

    struct Answer: Sendable {
        let status: Int
        let fields: String
        let body: String
    }

    func request(
        _ method: String, _ path: String, fields: [String] = [], body: String = ""
    ) async throws -> Answer {
        let port = self.port
        return try await onThread {
            let client = try TestClient(port: port)
            let head =
                [
                    "\(method) \(path) HTTP/1.1", "Host: localhost", "Connection: close",
                    "Content-Length: \(body.utf8.count)",
                ]
                + fields + ["", ""]
            try client.write(head.joined(separator: "\r\n") + body)
            let answer = try client.readToEnd()
            guard let end = answer.firstRange(of: "\r\n\r\n") else { throw ClientError(text: "no answer: \(answer)") }
            let status = answer.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
            return Answer(
                status: status, fields: String(answer[..<end.lowerBound]), body: String(answer[end.upperBound...]))
        }
    }

    /// Calls the server API.
    func call(_ method: String, _ body: String, fields: [String] = []) async throws -> Answer {
        try await self.request(
            "POST", "/api/\(method)", fields: ["X-API-Key: \(TestNode.apiKey)"] + fields, body: body)
    }
}
