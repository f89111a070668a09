import FanfareCore
import FanfareEngines
package import FanfareModel
import Logging

/// Owns a slice of the users: writes their inbox rows, chunk by chunk, and has each chunk pushed to those online.
///
/// What it does is fenced and kept in the store: another node's shard continues where this one was stopped.
package actor FanoutShard {
    package nonisolated let unownedExecutor: UnownedSerialExecutor
    package nonisolated let shard: Shard
    private let loop: any Loop
    private let store: any Store
    private let map: ClusterMap
    private let membership: Membership
    private let pusher: InboxPusher
    private let chunkSize: Int
    private let logger: Logger
    private let metrics: FabricMetrics
    private var fence: Fence?

    init(
        shard: Shard, loop: any Loop, store: any Store, map: ClusterMap, membership: Membership, pusher: InboxPusher,
        chunkSize: Int, logger: Logger, metrics: FabricMetrics
    ) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.shard = shard
        self.loop = loop
        self.store = store
        self.map = map
        self.membership = membership
        self.pusher = pusher
        self.chunkSize = chunkSize
        self.logger = logger
        self.metrics = metrics
    }

    /// Works until nothing is due, or the shard belongs to another node.
    /// - Throws: what keeps it from going on for now.
    func work() async throws(EngineError) {
        var timesFenced = 0
        while self.map.owns(self.shard.slot) {
            do throws(EngineError) {
                let fence = try await self.obtainFence()
                guard let chunk = try await self.store.workChunk(self.shard, fence: fence, limit: self.chunkSize) else {
                    return
                }
                self.metrics.fanoutRows.increment(by: chunk.users.count)
                // Others may have been told meanwhile who is online. The rows count all the same: the store has fenced them.
                if !self.map.holdsLease(at: self.loop.now) { await self.pusher.distrust(self.shard) }
                let delivered = await self.pusher.push([FanoutPush(chunk)])[0]
                try await self.store.pushed(chunk, deliveredOnline: delivered, fence: fence)
            } catch {
                guard error.code == .fenced else { throw error }
                self.metrics.fenceRejections.increment()
                self.fence = nil
                await self.membership.refresh()
                timesFenced += 1
                // Another node has a newer view than this one can learn now: leave the work to it.
                guard timesFenced < 3 else { throw EngineError(.unavailable, "shard \(self.shard) is contended") }
            }
        }
        self.fence = nil
    }

    private func obtainFence() async throws(EngineError) -> Fence {
        if let fence = self.fence { return fence }
        guard let view = self.map.view else { throw EngineError(.unavailable, "no view yet") }
        let fence = try await self.store.claimShard(
            self.shard, view: view.number, node: self.map.node, incarnation: self.map.incarnation)
        self.logger.debug("shard claimed", metadata: ["shard": "\(self.shard)", "fence": "\(fence)"])
        self.fence = fence
        return fence
    }
}
