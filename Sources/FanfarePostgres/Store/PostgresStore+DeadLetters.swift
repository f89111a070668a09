package import FanfareEngines
package import FanfareModel

extension PostgresStore {
    package func deadLetters(_ filter: DeadLetterFilter) async throws(FanfareError) -> [DeadLetter] {
        try await self.read("dead_letters") { session in
            let rows = try session.query(
                """
                SELECT d.id, d.kind, d.event_id, u.name, d.shard, d.payload, d.cause, d.sql_state, d.attempts,
                    d.first_failed_at, d.last_failed_at, d.state
                FROM dead_letters d LEFT JOIN users u ON u.id = d.user_id
                WHERE d.id > $1 AND ($2::bigint IS NULL OR d.event_id = $2) AND ($3::text IS NULL OR d.kind = $3)
                    AND ($4 OR d.state = 0)
                ORDER BY d.id LIMIT $5
                """,
                [
                    .int8(filter.after), .int8(filter.event?.rawValue), .text(filter.kind),
                    .bool(filter.includesSettled),
                    .int8(Int64(min(max(filter.limit, 1), 1000))),
                ])
            var letters: [DeadLetter] = []
            for row in rows.indices {
                let state: DeadLetter.State =
                    switch try rows.int(row, 11) {
                    case 0: .dead
                    case 1: .replayed
                    default: .discarded
                    }
                letters.append(
                    DeadLetter(
                        id: try rows.int64(row, 0), kind: try rows.string(row, 1),
                        event: try rows.int64OrNil(row, 2).map(EventID.init),
                        user: try rows.stringOrNil(row, 3).map(UserID.init(unchecked:)),
                        shard: try rows.int64OrNil(row, 4).map { Shard(index: Int($0)) },
                        payload: try rows.bytes(row, 5), cause: try rows.string(row, 6),
                        sqlState: try rows.stringOrNil(row, 7), attempts: try rows.int(row, 8),
                        firstFailedAt: try rows.timestamp(row, 9), lastFailedAt: try rows.timestamp(row, 10),
                        state: state))
            }
            return letters
        }
    }

    package func replayDeadLetters(_ ids: [Int64]) async throws(FanfareError) -> Int {
        try await self.settle(ids, as: 1) { session, settled in
            // A job goes on from its cursor. Single users become one job per event and shard, apart from the event's own.
            try session.query(
                """
                UPDATE fanout_jobs j SET state = 0, attempts = 0, row_failures = 0, first_failed_at = NULL, run_at = now()
                FROM dead_letters d WHERE d.id = ANY($1) AND d.kind = 'fanout' AND d.job_id = j.id AND j.state = 1
                """, [.int8s(settled)])
            try session.query(
                """
                INSERT INTO fanout_jobs (event_id, shard, is_replay, user_ids)
                SELECT event_id, shard, true, array_agg(DISTINCT user_id ORDER BY user_id) FROM dead_letters
                WHERE id = ANY($1) AND kind = 'fanout' AND user_id IS NOT NULL
                GROUP BY event_id, shard ORDER BY event_id, shard
                """, [.int8s(settled)])
            try session.query(
                """
                UPDATE outbox o SET is_dead = false FROM dead_letters d
                WHERE d.id = ANY($1) AND d.kind = 'outbox' AND d.event_id = o.event_id
                """, [.int8s(settled)])
        }
    }

    package func discardDeadLetters(_ ids: [Int64]) async throws(FanfareError) -> Int {
        try await self.settle(ids, as: 2) { session, settled in
            let gone = try session.query(
                """
                DELETE FROM fanout_jobs j USING dead_letters d
                WHERE d.id = ANY($1) AND d.kind = 'fanout' AND d.job_id = j.id AND j.state = 1 RETURNING j.event_id
                """, [.int8s(settled)])
            var events: Set<EventID> = []
            for row in gone.indices { events.insert(EventID(try gone.int64(row, 0))) }
            if !events.isEmpty { try session.completeEvents(events.sorted()) }
            try session.query(
                """
                WITH gone AS (
                    DELETE FROM outbox o USING dead_letters d
                    WHERE d.id = ANY($1) AND d.kind = 'outbox' AND d.event_id = o.event_id AND o.is_dead
                    RETURNING o.event_id
                )
                UPDATE fanouts f SET shards_total = 0, total = 0, completed_at = clock_timestamp() FROM gone g
                WHERE f.event_id = g.event_id
                """, [.int8s(settled)])
        }
    }

    /// Settles those that are still dead, with what follows from it, in one transaction.
    private func settle(
        _ ids: [Int64], as state: Int16,
        _ consequence: @Sendable (PostgresSession, [Int64]) throws -> Void
    ) async throws(FanfareError) -> Int {
        guard ids.count <= 10_000 else { throw .limitExceeded("10000 dead letters at a time") }
        return try await self.request("settle_dead_letters") { session in
            let rows = try session.query(
                """
                WITH dead AS (
                    SELECT id FROM dead_letters WHERE id = ANY($1) AND state = 0 ORDER BY id FOR UPDATE
                )
                UPDATE dead_letters d SET state = $2, settled_at = now() FROM dead WHERE d.id = dead.id RETURNING d.id
                """, [.int8s(ids), .int2(state)])
            var settled: [Int64] = []
            for row in rows.indices { settled.append(try rows.int64(row, 0)) }
            if !settled.isEmpty { try consequence(session, settled) }
            return settled.count
        }
    }
}
