import FanfareCore
import FanfareEngines
import FanfareLoops
import FanfareModel
import FanfareTesting
import Logging
import Synchronization

@testable import FanfareRedis

/// What tests of one process share: a loop and a server. Key spaces are kept apart by prefixes.
final class Shared: Sendable {
    static let loop: EdgeLoop = {
        do { return try EdgeLoop(name: "test") } catch { fatalError("\(error)") }
    }()

    private static let server = Mutex<RedisServer?>(nil)
    private static let counter = Atomic<Int>(0)

    static func redis() throws -> RedisServer {
        try Self.server.withLock { server in
            if let server { return server }
            let started = try RedisServer()
            server = started
            return started
        }
    }

    static func prefix() -> String { "t\(Self.counter.add(1, ordering: .relaxed).newValue)" }
}

let surroundings = Surroundings(
    wallClock: { Timestamp(milliseconds: 0) }, random: { UInt64.random(in: .min ... .max) })

func quietLogger() -> Logger {
    var logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
    logger.logLevel = .critical
    return logger
}

/// Nodes on one Redis, with their links up.
func redisCluster(
    _ server: RedisServer, nodes: Int, prefix: String = Shared.prefix(),
    configure: (inout RedisConfiguration) -> Void = { _ in }
) async throws -> BrokerCluster {
    var configuration = RedisConfiguration(url: try RedisURL(parsing: server.url), prefix: prefix)
    configure(&configuration)
    var members: [BrokerNode] = []
    for index in 0..<nodes {
        let node = NodeID("node-\(index)")
        let broker = try RedisBroker(
            configuration, node: node, loop: Shared.loop, surroundings: surroundings, logger: quietLogger())
        let receiver = RecordingReceiver()
        broker.start(receiver: receiver)
        members.append(BrokerNode(id: node, broker: broker, receiver: receiver))
    }
    for member in members {
        try await eventually("links come up: \(member.broker.health)") { member.broker.isUp }
    }
    return BrokerCluster(members)
}

func memoryCluster(nodes: Int) -> BrokerCluster {
    let loop = Shared.loop
    let hub = MemoryHub(clock: { loop.now })
    return BrokerCluster(
        (0..<nodes).map { index in
            let node = NodeID("node-\(index)")
            let broker = MemoryBroker(node: node, hub: hub, loop: loop)
            let receiver = RecordingReceiver()
            broker.start(receiver: receiver)
            return BrokerNode(id: node, broker: broker, receiver: receiver)
        })
}

extension Broker {
    var isUp: Bool { self.health.commands && self.health.subscriptions }
}

extension BrokerCluster {
    func stop() async {
        for node in self.nodes { await node.broker.stop() }
    }
}
