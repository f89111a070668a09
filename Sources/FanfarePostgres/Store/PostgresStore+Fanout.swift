package import FanfareEngines
package import FanfareModel
import Metrics

extension PostgresStore {
    package func workFanout(
        _ order: FanoutOrder, online: @escaping @Sendable (Shard, Int) -> [UserKey]
    ) async throws(EngineError) -> FanoutBatch {
        var order = order
        order.limit = min(max(order.limit, 1), 100_000)
        let work = FanoutWork(
            order: order, configuration: self.configuration, random: self.random, metrics: self.metrics,
            whoIsOnline: online)
        do {
            let batch = try await self.bulk("work_fanout") { session in try work.work(session) }
            self.metrics.inboxRows.increment(by: batch.rows)
            if !batch.fenced.isEmpty { self.metrics.fenceRejections.increment(by: batch.fenced.count) }
            return batch
        } catch {
            throw PostgresStore.engineError(error)
        }
    }

    package func broadcastPushes(
        _ broadcasts: [FanoutBroadcast], to users: [UserKey]
    ) async throws(EngineError) -> [FanoutPush] {
        try await self.work("broadcast_pushes") { session in try session.broadcastPushes(broadcasts, to: users) }
    }

    package func unsettledPushes(
        _ shards: [Shard: Fence], to users: [UserKey]
    ) async throws(EngineError) -> FanoutBatch {
        try await self.work("unsettled_pushes") { session in try session.unsettledPushes(shards, to: users) }
    }
}
