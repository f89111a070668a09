package import FanfareEngines
package import FanfareModel

extension PostgresStore {
    /// Generations are remembered in the order in which they were first seen here: a view of an older one claims nothing,
    /// so that a node from before a wipe of Redis cannot take shards back.
    package func claimShards(
        _ shards: [Shard], view: ViewNumber, node: NodeID, incarnation: String
    ) async throws(EngineError) -> [Shard: Fence] {
        guard !shards.isEmpty else { return [:] }
        return try await self.work("claim_shards") { session in
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
            guard isCurrent else { return [:] }
            let rows = try session.query(
                """
                WITH claimed AS MATERIALIZED (
                    SELECT shard FROM shards WHERE shard = ANY($1) ORDER BY shard FOR NO KEY UPDATE
                )
                UPDATE shards s SET view = $2, generation = $3, owner = $4, incarnation = $5,
                    fence = s.fence + CASE
                        WHEN s.owner = $4 AND s.incarnation = $5 AND s.generation = $3 THEN 0 ELSE 1 END
                FROM claimed c WHERE s.shard = c.shard AND (s.generation <> $3 OR s.view <= $2)
                RETURNING s.shard, s.fence
                """,
                [
                    .shards(shards), .int8(view.number), .text(view.generation), .text(node.rawValue),
                    .text(incarnation),
                ])
            var fences: [Shard: Fence] = [:]
            for row in rows.indices {
                fences[Shard(index: try rows.int(row, 0))] = Fence(
                    generation: view.generation, number: try rows.uint64(row, 1))
            }
            return fences
        }
    }
}
