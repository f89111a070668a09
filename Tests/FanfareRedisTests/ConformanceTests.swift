import FanfareTesting
import Testing

@Suite("Both brokers conform")
struct ConformanceTests {
    @Test("in memory", arguments: BrokerCheck.all)
    func memory(check: BrokerCheck) async throws {
        let cluster = memoryCluster(nodes: check.nodes)
        try await check.run(cluster)
        await cluster.stop()
    }

    @Test("on Redis", arguments: BrokerCheck.all)
    func redis(check: BrokerCheck) async throws {
        let cluster = try await redisCluster(Shared.redis(), nodes: check.nodes)
        do {
            try await check.run(cluster)
        } catch {
            await cluster.stop()
            throw error
        }
        await cluster.stop()
    }
}
