import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareProtocol
import Logging

@testable import FanfareFabric
@testable import FanfareTesting

/// One node on a simulated loop and engine, with clients of its own. Use it inside `onOwnThread`.
final class Bench: @unchecked Sendable {
    // Safe: used on the simulation's thread alone.
    let scheduler = SimulatedScheduler(seed: 1)
    let engine: SimulatedEngine
    let loop: SimulatedLoop
    let node: Node

    init(_ configure: (inout NodeConfiguration) -> Void = { _ in }) {
        self.engine = SimulatedEngine(scheduler: self.scheduler)
        self.loop = self.scheduler.makeLoop(name: "node")
        var configuration = NodeConfiguration(name: NodeID("n0"))
        configure(&configuration)
        let node = Node(
            configuration, loops: [self.loop], broker: self.engine.makeBroker(for: NodeID("n0"), loop: self.loop),
            store: nil, tokens: BenchTokens(), surroundings: self.scheduler.surroundings(),
            logger: Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() }
        ) { _, _, _, _ throws(FanfareError) in throw .methodNotFound }
        self.node = node
        self.loop.execute { node.start() }
        _ = self.scheduler.run(for: .seconds(2)) { node.map.view != nil }
    }

    func run(_ duration: Duration = .milliseconds(500)) { _ = self.scheduler.run(for: duration) }

    /// What an asynchronous call gives, run on the node's loop; nil where it takes too long.
    func wait<Value: Sendable>(_ body: @escaping @Sendable () async -> Value) -> Value? {
        let box = Box<Value?>(nil)
        self.loop.execute { self.loop.task { box.value = await body() } }
        _ = self.scheduler.run(for: .seconds(30)) { box.value != nil }
        return box.value
    }

    func publish(_ data: String, to room: String, key: String? = nil) -> Result<StreamPosition?, FanfareError>? {
        self.wait {
            do throws(FanfareError) {
                let order = PublishOrder(channel: try Channel(room), data: Bytes(data.utf8), idempotencyKey: key)
                return .success(try await self.node.publish(order, by: .server))
            } catch {
                return .failure(error)
            }
        }
    }

    func position(_ data: String, to room: String, key: String? = nil) -> StreamPosition? {
        (try? self.publish(data, to: room, key: key)?.get()) ?? nil
    }

    func open() -> BenchClient {
        let transport = RecordingTransport()
        let client = BenchClient(bench: self, transport: transport)
        self.loop.execute {
            client.session = self.node.makeSession(
                transport, SessionOpening(variant: .json, remoteAddress: "bench", loop: self.loop))
        }
        _ = self.scheduler.run(for: .seconds(1)) { client.session != nil }
        return client
    }

    func connect(_ token: String = "") -> BenchClient {
        let client = self.open()
        client.send(#"{"id":1,"connect":{"token":"\#(token)"}}"#)
        self.run(.milliseconds(100))
        return client
    }
}

final class Box<Value>: @unchecked Sendable {
    // Safe: used on one thread.
    var value: Value
    init(_ value: Value) { self.value = value }
}

/// What a session wrote.
final class RecordingTransport: SessionTransport, @unchecked Sendable {
    // Safe: used on the simulation's thread alone.
    private(set) var objects: [JSON] = []
    private(set) var closed: Disconnect?

    func send(_ object: Bytes) { self.objects.append((try? JSON.parse(object)) ?? .null) }

    func send(_ frame: SharedFrame) {
        // Frames of these tests are short enough for the two shorter forms of the header.
        let header = frame.bytes[1] < 126 ? 2 : 4
        for line in frame.bytes.dropFirst(header).split(separator: 0x0a) { self.send(Bytes(line)) }
    }

    func close(_ disconnect: Disconnect) { self.closed = disconnect }
    var queuedBytes: Int { 0 }
}

final class BenchClient: @unchecked Sendable {
    // Safe: used on the simulation's thread alone.
    let bench: Bench
    let transport: RecordingTransport
    var session: Session?

    init(bench: Bench, transport: RecordingTransport) {
        self.bench = bench
        self.transport = transport
    }

    func send(_ message: String) {
        self.bench.loop.execute { self.session?.received(Bytes(message.utf8), isText: true) }
    }

    /// Sends, lets the node work, and gives the reply.
    func ask(_ id: Int, _ body: String) -> JSON? {
        self.send("{\"id\":\(id),\(body)}")
        self.bench.run(.milliseconds(200))
        return self.reply(id)
    }

    func reply(_ id: Int) -> JSON? { self.transport.objects.last { $0["id"]?.integerValue == Int64(id) } }
    func error(_ id: Int) -> Int64? { self.reply(id)?["error"]?["code"]?.integerValue }
    var pushes: [JSON] { self.transport.objects.compactMap { $0["push"] } }
    var offsets: [Int64] { self.pushes.compactMap { $0["pub"]?["offset"]?.integerValue } }
    var isPinged: Bool { self.transport.objects.contains { $0.objectValue?.isEmpty == true } }
}

/// `user:<name>` and `user:<name>:<expiry>` are good; `expired` is not any more.
struct BenchTokens: TokenVerifier {
    func cachedConnection(_ token: String) -> VerifiedToken? { nil }

    func verifyConnection(_ token: String) async throws(TokenFailure) -> VerifiedToken {
        let parts = token.split(separator: ":").map(String.init)
        if token == "expired" { throw .expired }
        guard parts.count >= 2, parts[0] == "user", let user = UserID(parts[1]) else { throw .invalid }
        return VerifiedToken(user: user, expiresAt: parts.count > 2 ? Int64(parts[2]) : nil)
    }

    func verifySubscription(_ token: String) async throws(TokenFailure) -> VerifiedSubscription {
        if token == "expired" { throw .expired }
        throw .invalid
    }
}
