import FanfareCore
import FanfareFabric
import FanfareGateway
import FanfareLoops
import FanfareModel
import FanfareProtocol
import Hummingbird
import Logging
import NIOCore
import NIOPosix
import Synchronization
import Testing

/// A session that a test controls: records what it gets, echoes, and hands out its transport.
final class RecordingSession: SessionHandler {
    struct State {
        var messages: [Bytes] = []
        var closes = 0
    }

    let transport: any SessionTransport
    let opening: SessionOpening
    private let state = Mutex(State())
    private let onMessage: @Sendable (RecordingSession, Bytes) -> Void

    init(
        _ transport: any SessionTransport, _ opening: SessionOpening,
        onMessage: @escaping @Sendable (RecordingSession, Bytes) -> Void
    ) {
        self.transport = transport
        self.opening = opening
        self.onMessage = onMessage
    }

    var messages: [String] { self.state.withLock { $0.messages.map { String(decoding: $0, as: UTF8.self) } } }
    var closes: Int { self.state.withLock { $0.closes } }

    func received(_ message: Bytes, isText: Bool) {
        self.state.withLock { $0.messages.append(message) }
        self.onMessage(self, message)
    }

    func closed() { self.state.withLock { $0.closes += 1 } }
}

/// A listener on a free port, with an HTTP server behind it that answers with the path.
final class TestGateway: Sendable {
    let group: EdgeLoopGroup
    let listener: Listener
    let port: UInt16
    private let sessionList: SessionList
    private let frontDoor: Task<Void, Never>
    private let door: HTTPFrontDoor

    private final class SessionList: Sendable {
        let sessions = Mutex<[RecordingSession]>([])
    }

    init(
        options: ConnectionOptions = ConnectionOptions(), loops: Int = 2,
        onMessage: @escaping @Sendable (RecordingSession, Bytes) -> Void = { session, message in
            session.transport.send(message)
        }
    ) async throws {
        let logger = Logger(label: "test")
        let group = try EdgeLoopGroup(count: loops)
        let list = SessionList()
        let door = HTTPFrontDoor(
            responder: { request, writer, _ in
                let body = ByteBuffer(string: "path " + request.uri.path)
                var body2 = try await writer.writeHead(
                    HTTPResponse(status: .ok, headerFields: [.contentLength: String(body.readableBytes)]))
                try await body2.write(body)
                try await body2.finish(nil)
            }, group: .singleton, logger: logger)
        let routes = ConnectionRoutes(http: door) { transport, opening in
            let session = RecordingSession(transport, opening, onMessage: onMessage)
            list.sessions.withLock { $0.append(session) }
            return session
        }
        self.sessionList = list
        self.group = group
        self.door = door
        self.listener = Listener(group: group, routes: routes, options: options, logger: logger)
        self.port = try await self.listener.start(host: "127.0.0.1", port: 0)
        self.frontDoor = Task { await door.run() }
    }

    var sessions: [RecordingSession] { self.sessionList.sessions.withLock { $0 } }

    /// Waits for `condition`, ten seconds at the most.
    func eventually(_ condition: @escaping @Sendable () -> Bool) async throws {
        for _ in 0..<5000 {
            if condition() { return }
            await self.group.loops[0].sleep(for: .milliseconds(2))
        }
        throw ClientError(text: "waited too long")
    }

    /// Runs `body` with a client on a thread of its own, then waits until the gateway is idle.
    func run<Result: Sendable>(_ body: @escaping @Sendable (TestClient) throws -> Result) async throws -> Result {
        let port = self.port
        return try await onThread { try body(TestClient(port: port)) }
    }

    func stop() async {
        await self.listener.stop()
        self.door.finish()
        self.frontDoor.cancel()
        await self.frontDoor.value
        let group = self.group
        try? await onThread { group.stop() }
    }
}
