package import FanfareEngines
package import FanfareModel

extension PostgresStore {
    /// Generations are remembered in the order in which they were first seen here: a view of an older one claims nothing,
    /// so that a node from before a wipe of Redis cannot take shards back.
    package func claimShard(
        _ shard: Shard, view: ViewNumber, node: NodeID, incarnation: String
    ) async throws(EngineError) -> Fence {
        let fence: Fence? = try await self.work("claim_shard") { session in
            try session.query(
                """
                INSERT INTO generations (generation)
                SELECT $1 WHERE NOT EXISTS (SELECT FROM generations WHERE generation = $1) ON CONFLICT DO NOTHING
                """, [.text(view.generation)])
            let isCurrent = try session.query(
                """
                SELECT generation = $1 FROM generations ORDER BY number DESC LIMIT 1
                """, [.text(view.generation)]
            ).bool(0, 0)
            guard isCurrent else { return nil }
            let row = try session.query(
                """
                SELECT fence, view, generation, owner, incarnation FROM shards WHERE shard = $1 FOR NO KEY UPDATE
                """, [.shard(shard)])
            var number = try row.uint64(0, 0)
            let isSameGeneration = try row.string(0, 2) == view.generation
            if isSameGeneration, try row.uint64(0, 1) > view.number { return nil }
            let isSameOwner =
                try row.string(0, 3) == node.rawValue && row.string(0, 4) == incarnation && isSameGeneration
            if !isSameOwner { number += 1 }
            try session.query(
                """
                UPDATE shards SET fence = $2, view = $3, generation = $4, owner = $5, incarnation = $6
                WHERE shard = $1
                """,
                [
                    .shard(shard), .int8(number), .int8(view.number), .text(view.generation), .text(node.rawValue),
                    .text(incarnation),
                ])
            return Fence(generation: view.generation, number: number)
        }
        if let fence { return fence }
        throw EngineError(.fenced, "shard \(shard) was claimed under a newer view than \(view)")
    }

    package func shardsWithWork(_ shards: [Shard]) async throws(EngineError) -> [Shard] {
        guard !shards.isEmpty else { return [] }
        return try await self.work("shards_with_work") { session in
            let rows = try session.query(
                """
                SELECT s.shard FROM unnest($1::int2[]) AS s (shard)
                WHERE EXISTS (
                    SELECT FROM fanout_jobs j WHERE j.shard = s.shard AND j.state = 0 AND j.run_at <= now()
                )
                """, [.shards(shards)])
            var found: [Shard] = []
            for row in rows.indices { found.append(Shard(index: try rows.int(row, 0))) }
            return found
        }
    }
}

extension PostgresSession {
    /// Locks the shard's row until the transaction ends, so that a take-over waits for it.
    /// - Returns: the job that was begun and is not done.
    /// - Throws: `EngineError` `.fenced` where `fence` is not the shard's current one.
    func checkFence(_ shard: Shard, _ fence: Fence) throws -> Int64? {
        let rows = try self.query(
            "SELECT fence, generation, job FROM shards WHERE shard = $1 FOR NO KEY UPDATE", [.shard(shard)])
        guard !rows.isEmpty, try rows.uint64(0, 0) == fence.number, try rows.string(0, 1) == fence.generation else {
            throw EngineError(.fenced, "fence \(fence) of shard \(shard) is not the current one")
        }
        return try rows.int64OrNil(0, 2)
    }
}
