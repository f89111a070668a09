import FanfareCore
import FanfareEngines
import FanfareModel
import Logging

/// Does the database's work for some of this node's shards, all of them in one transaction: writes inbox rows batch by batch,
/// and has each batch pushed to those online before the next one.
///
/// What it does is fenced and kept in the store: another node's worker continues where this one was stopped.
package actor FanoutWorker {
    package nonisolated let unownedExecutor: UnownedSerialExecutor
    private let loop: any Loop
    /// The shards that are this worker's where the node owns them.
    private let shards: [Shard]
    private let store: any Store
    private let map: ClusterMap
    private let membership: Membership
    private let online: OnlineUsers
    private let pusher: InboxPusher
    private let logger: Logger
    private let metrics: FabricMetrics

    /// Users online of whom the store is asked at once whether a broadcast is for them.
    private static let usersAtOnce = 10_000

    private var fences: [Shard: Fence] = [:]
    private var cursor = FanoutCursor()
    private var pace: BatchPace
    /// Pushes that were made, and that the store has not been told of.
    private var settling: FanoutSettlement?
    private var isStopped = false

    init(
        shards: [Shard], loop: any Loop, store: any Store, map: ClusterMap, membership: Membership,
        online: OnlineUsers, pusher: InboxPusher, pace: BatchPace, logger: Logger, metrics: FabricMetrics
    ) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.loop = loop
        self.shards = shards
        self.store = store
        self.map = map
        self.membership = membership
        self.online = online
        self.pusher = pusher
        self.pace = pace
        self.logger = logger
        self.metrics = metrics
    }

    /// Leaves the rest to others.
    func stop() { self.isStopped = true }

    /// Works until nothing is due, or the shards belong to other nodes.
    /// - Throws: what keeps it from going on for now.
    func work() async throws(EngineError) {
        var timesFenced = 0
        while !self.isStopped {
            var isContended = try await self.obtainFences()
            guard !self.fences.isEmpty else { break }
            let order = FanoutOrder(
                shards: self.fences, cursor: self.cursor, limit: self.pace.limit, settling: self.settling)
            let begun = self.loop.now
            let online = self.online
            var batch = try await self.store.workFanout(order) { online.keys(in: $0, limit: $1) }
            self.pace.wrote(batch.rows, in: self.loop.now - begun)
            self.settling = nil
            self.cursor = batch.cursor
            self.metrics.fanoutRows.increment(by: batch.rows)
            if !batch.broadcasts.isEmpty {
                let shards = Set(batch.broadcasts.map(\.shard)).sorted()
                let users = self.online.keys(in: shards)
                for start in stride(from: 0, to: users.count, by: FanoutWorker.usersAtOnce) {
                    let some = Array(users[start..<min(start + FanoutWorker.usersAtOnce, users.count)])
                    batch.pushes += try await self.store.broadcastPushes(batch.broadcasts, to: some)
                }
                // Of one user in the order of the sequences.
                batch.pushes.sort { $0.recipients[0].sequence < $1.recipients[0].sequence }
            }
            await self.push(batch)
            if !batch.unsettled.isEmpty {
                let fences = self.fences.filter { batch.unsettled.contains($0.key) }
                let again = try await self.store.unsettledPushes(fences, to: self.online.keys(in: batch.unsettled))
                await self.push(again)
            }
            if !batch.fenced.isEmpty {
                self.metrics.fenceRejections.increment(by: batch.fenced.count)
                for shard in batch.fenced { self.fences[shard] = nil }
                isContended = true
            }
            if isContended {
                await self.membership.refresh()
                timesFenced += 1
                // Another node has a newer view than this one can learn now: leave the work to it.
                guard timesFenced < 3 else { throw EngineError(.unavailable, "shards are contended") }
            } else if !batch.hasMore, self.settling == nil {
                return
            }
        }
        try await self.settle()
    }

    /// - Returns: whether another owner has a newer claim on a shard.
    private func obtainFences() async throws(EngineError) -> Bool {
        guard let view = self.map.view else { throw EngineError(.unavailable, "no view yet") }
        let owned = self.shards.filter { self.map.owns($0.slot) }
        self.fences = self.fences.filter { self.map.owns($0.key.slot) }
        let missing = owned.filter { self.fences[$0] == nil }
        guard !missing.isEmpty else { return false }
        let claimed = try await self.store.claimShards(
            missing, view: view.number, node: self.map.node, incarnation: self.map.incarnation)
        self.logger.debug("shards claimed", metadata: ["shards": "\(claimed.count)", "view": "\(view.number)"])
        for (shard, fence) in claimed { self.fences[shard] = fence }
        // What the new ones have to take up may lie before.
        self.cursor = FanoutCursor()
        return claimed.count < missing.count
    }

    private func push(_ batch: FanoutBatch) async {
        guard var settlement = batch.settlement else { return }
        // Others may have been told meanwhile who is online. The rows count all the same: the store has fenced them.
        if !self.map.holdsLease(at: self.loop.now) { await self.pusher.distrust(Set(settlement.shards.keys)) }
        let counts = await self.pusher.push(batch.pushes, by: settlement.shards.mapValues(\.fence))
        settlement.deliver(batch.pushes, counts)
        if let settling = self.settling { settlement.merge(settling) }
        self.settling = settlement
    }

    /// Tells the store of pushes alone.
    private func settle() async throws(EngineError) {
        guard let settling = self.settling else { return }
        _ = try await self.store.workFanout(FanoutOrder(shards: [:], limit: 1, settling: settling))
        self.settling = nil
    }
}
