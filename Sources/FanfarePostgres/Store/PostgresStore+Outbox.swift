package import FanfareEngines
import FanfareModel
import Logging
import Metrics

extension PostgresStore {
    /// One relay works at a time in the cluster, others return at once: jobs get their ids in the order of the events of
    /// each streamer, whose own order is kept by `lockEvents`. Rows are deleted as they are read, so there is no cursor
    /// that a late commit could fall behind.
    package func relayOutbox(limit: Int) async throws(EngineError) -> OutboxRelay {
        await self.maintain()
        let limit = min(max(limit, 1), 10_000)
        do {
            return try await self.relay(limit)
        } catch  where error.code == .rejected {
            // One of the rows is at fault: alone, it shows, and the others get on.
            self.logger.error("outbox row at fault", metadata: ["error": "\(error)"])
        }
        var shards: Set<Shard> = []
        var events = 0
        for _ in 0..<limit {
            do {
                let one = try await self.relay(1)
                guard one.events > 0 else { break }
                shards.formUnion(one.shards)
                events += one.events
            } catch  where error.code == .rejected {
                try await self.buryOutboxRow(error)
            }
        }
        return OutboxRelay(shards: shards.sorted(), events: events, hasMore: events > 0)
    }

    private static let relayLock: Int64 = Migrator.lockKey + 1

    private func relay(_ limit: Int) async throws(EngineError) -> OutboxRelay {
        try await self.work("relay_outbox") { session in
            guard try session.query("SELECT pg_try_advisory_xact_lock($1)", [.int8(PostgresStore.relayLock)]).bool(0, 0)
            else { return OutboxRelay(shards: [], events: 0, hasMore: false) }
            let rows = try session.query(
                """
                SELECT event_id, streamer, reach FROM outbox WHERE NOT is_dead ORDER BY event_id LIMIT $1 FOR UPDATE
                """, [.int8(Int64(limit))])
            var shards: Set<Shard> = []
            var events: [Int64] = []
            for row in rows.indices {
                let event = try rows.int64(row, 0)
                events.append(event)
                let streamer = try rows.int64OrNil(row, 1)
                let made = try session.makeJobs(event: event, streamer: streamer, reach: try rows.int64(row, 2))
                shards.formUnion(made)
                try session.query(
                    """
                    UPDATE fanouts SET shards_total = $2, shards_open = $2,
                        completed_at = CASE WHEN $2 = 0 THEN clock_timestamp() END
                    WHERE event_id = $1
                    """, [.int8(event), .int4(Int32(made.count))])
                if made.isEmpty, let streamer { try session.forgetEndedFollows(of: streamer) }
            }
            if !events.isEmpty {
                try session.query("DELETE FROM outbox WHERE event_id = ANY($1)", [.int8s(events)])
            }
            return OutboxRelay(shards: shards.sorted(), events: events.count, hasMore: events.count == limit)
        }
    }

    /// The first row cannot be relayed.
    private func buryOutboxRow(_ cause: EngineError) async throws(EngineError) {
        let buried = try await self.work("bury_outbox") { session in
            try session.query(
                """
                WITH row AS (
                    UPDATE outbox SET is_dead = true
                    WHERE event_id = (SELECT min(event_id) FROM outbox WHERE NOT is_dead) RETURNING event_id
                )
                INSERT INTO dead_letters
                    (kind, event_id, payload, cause, sql_state, attempts, first_failed_at, last_failed_at)
                SELECT 'outbox', event_id, '{"event":"' || event_id || '"}', $1, $2, 1, now(), now() FROM row
                """, [.text(cause.message), .text(cause.sqlState)]
            ).affected
        }
        self.metrics.deadOutbox.increment(by: buried)
    }
}

extension PostgresSession {
    /// Makes one job per shard that has recipients.
    fileprivate func makeJobs(event: Int64, streamer: Int64?, reach: Int64) throws(PostgresError) -> [Shard] {
        let rows: PostgresRows
        if let streamer {
            // From one shard to the next by the index, not through all follows.
            let meant = "f.streamer = $2 AND f.since < $1 AND (f.until IS NULL OR f.until >= $1) AND f.notify <= $3"
            rows = try self.query(
                """
                WITH RECURSIVE hit (shard) AS (
                    (SELECT f.shard FROM follows f WHERE \(meant) ORDER BY f.shard LIMIT 1)
                    UNION ALL
                    SELECT (SELECT f.shard FROM follows f WHERE \(meant) AND f.shard > hit.shard
                        ORDER BY f.shard LIMIT 1)
                    FROM hit WHERE hit.shard IS NOT NULL
                )
                INSERT INTO fanout_jobs (event_id, streamer, reach, shard)
                SELECT $1, $2, $3, shard FROM hit WHERE shard IS NOT NULL RETURNING shard
                """, [.int8(event), .int8(streamer), .int2(Int16(reach))])
        } else {
            rows = try self.query(
                """
                INSERT INTO fanout_jobs (event_id, shard, user_ids)
                SELECT $1, u.shard, array_agg(u.id ORDER BY u.id)
                FROM outbox o CROSS JOIN unnest(o.user_ids) AS named (id) JOIN users u ON u.id = named.id
                WHERE o.event_id = $1 GROUP BY u.shard RETURNING shard
                """, [.int8(event)])
        }
        var shards: [Shard] = []
        for row in rows.indices { shards.append(Shard(index: try rows.int(row, 0))) }
        return shards
    }

    /// Deletes follows that ended, where no event counts on them any more. On those of a streamer with broadcasts readers
    /// count: they are forgotten with the broadcasts.
    func forgetEndedFollows(of streamer: Int64) throws(PostgresError) {
        try self.query(
            """
            DELETE FROM follows f WHERE f.streamer = $1 AND f.until IS NOT NULL AND NOT EXISTS (
                SELECT FROM fanouts o WHERE o.streamer = $1 AND o.completed_at IS NULL
                    AND o.event_id > f.since AND o.event_id <= f.until
            ) AND NOT (SELECT EXISTS (SELECT FROM broadcasts WHERE streamer = $1))
            """, [.int8(streamer)])
    }
}
