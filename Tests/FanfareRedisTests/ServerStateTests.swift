import FanfareEngines
import FanfareModel
import FanfareTesting
import Testing

@testable import FanfareRedis

@Suite("Redis refuses", .serialized)
struct ServerStateTests {
    private static let slot = Slot(of: "room:1")

    private static func claim(_ node: BrokerNode) async throws -> Fence {
        let view = try await node.broker.heartbeat(node.member(), lease: .seconds(60), newGeneration: "g")
        return try await node.broker.claim(Self.slot, view: view.number, node: node.id, incarnation: "first")
    }

    private static func append(_ node: BrokerNode, _ fence: Fence, at offset: UInt64) async throws
        -> [RoomAppendOutcome]
    {
        let append = RoomAppend(
            room: "room:1", expected: StreamPosition(offset: offset, epoch: "e"),
            entries: [AppendEntry(body: [1], idempotencyKey: "k\(offset)")], retention: Retention())
        return try await node.broker.append([append], slot: Self.slot, fence: fence)
    }

    private static func failure(_ body: () async throws -> Void) async -> EngineError? {
        do { try await body() } catch { return error as? EngineError }
        return nil
    }

    @Test("forgotten scripts are sent again")
    func scriptFlush() async throws {
        let server = try RedisServer()
        let cluster = try await redisCluster(server, nodes: 1)
        for _ in 0..<2 {
            _ = try await Self.claim(cluster.nodes[0])
            _ = try server.command("SCRIPT", "FLUSH")
        }
        await cluster.stop()
    }

    @Test("full memory refuses the append whole; the lease and the fence go on")
    func outOfMemory() async throws {
        let server = try RedisServer()
        let cluster = try await redisCluster(server, nodes: 1)
        let node = cluster.nodes[0]
        let fence = try await Self.claim(node)
        _ = try await node.broker.open("room:1", fence: fence, newEpoch: "e", retention: Retention())
        _ = try server.command("CONFIG", "SET", "maxmemory", "1")
        let error = await Self.failure { _ = try await Self.append(node, fence, at: 0) }
        #expect(error?.code == .unavailable)
        #expect(error?.message.hasPrefix("OOM") == true)
        #expect(try await Self.claim(node) == fence)
        try await node.broker.removeHistory("room:1", fence: fence)
        _ = try server.command("CONFIG", "SET", "maxmemory", "0")
        #expect(try await node.broker.read("room:1", since: 0, limit: 1)?.top.offset == 0)
        try await eventually("appending works again") {
            await Self.failure { _ = try await Self.append(node, fence, at: 0) } == nil
        }
        await cluster.stop()
    }

    @Test("a replica is no server to write to: temporary, and the link is made anew")
    func replica() async throws {
        let server = try RedisServer()
        let cluster = try await redisCluster(server, nodes: 1)
        let node = cluster.nodes[0]
        let fence = try await Self.claim(node)
        _ = try await node.broker.open("room:1", fence: fence, newEpoch: "e", retention: Retention())
        _ = try server.command("REPLICAOF", "127.0.0.1", "1")
        let error = await Self.failure { _ = try await Self.append(node, fence, at: 0) }
        #expect(error?.code == .unavailable)
        _ = try server.command("REPLICAOF", "NO", "ONE")
        try await eventually("appending works again") {
            await Self.failure { _ = try await Self.append(node, fence, at: 0) } == nil
        }
        await cluster.stop()
    }

    @Test("a wiped key space fences all")
    func flushed() async throws {
        let server = try RedisServer()
        let cluster = try await redisCluster(server, nodes: 1)
        let fence = try await Self.claim(cluster.nodes[0])
        _ = try server.command("FLUSHALL")
        #expect(await Self.failure { _ = try await Self.append(cluster.nodes[0], fence, at: 0) }?.code == .fenced)
        await cluster.stop()
    }

    @Test("keys of another type are refused for good")
    func foreignKeys() async throws {
        let server = try RedisServer()
        let cluster = try await redisCluster(server, nodes: 1, prefix: "ff")
        let node = cluster.nodes[0]
        let fence = try await Self.claim(node)
        _ = try server.command("SET", "ff:{\(Self.slot)}:r:room:1:m", "text")
        let error = await Self.failure {
            _ = try await node.broker.open("room:1", fence: fence, newEpoch: "e", retention: Retention())
        }
        #expect(error?.code == .rejected)
        await cluster.stop()
    }

    @Test("user, password and database")
    func login() async throws {
        let server = try RedisServer(options: ["--requirepass", "secret word"])
        func connect(_ password: String?, database: Int = 0) throws -> (
            broker: RedisBroker, receiver: RecordingReceiver
        ) {
            let url = RedisURL(host: "127.0.0.1", port: server.port, password: password, database: database)
            let broker = try RedisBroker(
                RedisConfiguration(url: url), node: NodeID("n"), loop: Shared.loop, surroundings: surroundings,
                logger: quietLogger())
            let receiver = RecordingReceiver()
            broker.start(receiver: receiver)
            return (broker, receiver)
        }
        for password in [nil, "wrong"] {
            let (broker, _) = try connect(password)
            try await eventually("the refusal shows: \(broker.health)") {
                let problem = broker.health.problem ?? ""
                return problem.contains("NOAUTH") || problem.contains("WRONGPASS")
            }
            #expect(!broker.isUp)
            await broker.stop()
        }
        let (zero, zeroReceiver) = try connect("secret word")
        let (three, threeReceiver) = try connect("secret word", database: 3)
        try await eventually("links come up: \(zero.health), \(three.health)") { zero.isUp && three.isUp }
        try await three.sendToAll([3])
        try await zero.sendToAll([0])
        try await eventually("messages arrive") {
            zeroReceiver.messages == [[0]] && threeReceiver.messages == [[3]]
        }
        await zero.stop()
        await three.stop()
    }

    @Test("nobody listens, or the name is unknown: refused at once, with a time to retry")
    func unreachable() async throws {
        let port = try PrivateServer.freePort()
        for host in ["127.0.0.1", "does-not-exist.invalid"] {
            let broker = try RedisBroker(
                RedisConfiguration(url: RedisURL(host: host, port: port)), node: NodeID("n"), loop: Shared.loop,
                surroundings: surroundings, logger: quietLogger())
            let receiver = RecordingReceiver()
            broker.start(receiver: receiver)
            try await eventually(within: .seconds(20), "the failure shows") { receiver.count(of: .linkLost) == 1 }
            let error = await Self.failure { try await broker.sendToAll([1]) }
            #expect(error?.code == .unavailable)
            #expect(error?.retryAfter != nil)
            await broker.stop()
        }
    }

    @Test("a handshake that is not answered times out and is tried again")
    func silentHandshake() async throws {
        let server = try RedisServer()
        let proxy = try FaultyProxy(to: server.port)
        proxy.swallow("+OK")
        var configuration = RedisConfiguration(url: RedisURL(host: "127.0.0.1", port: proxy.port))
        configuration.connectTimeout = .milliseconds(200)
        let broker = try RedisBroker(
            configuration, node: NodeID("n"), loop: Shared.loop, surroundings: surroundings, logger: quietLogger())
        broker.start(receiver: RecordingReceiver())
        try await eventually("the handshake times out") { broker.health.problem?.contains("no answer") == true }
        proxy.swallow(nil)
        try await eventually(within: .seconds(10), "links come up: \(broker.health)") { broker.isUp }
        await broker.stop()
        proxy.stop()
    }
}
