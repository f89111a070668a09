package import FanfareEngines
package import FanfareModel
import Metrics

extension PostgresStore {
    package func deadLetters(_ filter: DeadLetterFilter) async throws(FanfareError) -> [DeadLetter] {
        try await self.read("dead_letters") { session in
            let rows = try session.query(
                """
                SELECT d.id, d.kind, d.event_id, u.name, d.shard, d.payload, d.cause, d.sql_state, d.attempts,
                    d.first_failed_at, d.last_failed_at, d.state, d.endpoint, d.error_class, d.order_key, s.name,
                    d.replay_of, d.settled_at
                FROM dead_letters d LEFT JOIN users u ON u.id = d.user_id LEFT JOIN users s ON s.id = d.streamer
                WHERE \(DeadLetterFilter.condition) ORDER BY d.id LIMIT $15
                """, filter.parameters)
            var letters: [DeadLetter] = []
            for row in rows.indices { letters.append(try rows.deadLetter(row)) }
            return letters
        }
    }

    package func countDeadLetters(_ filter: DeadLetterFilter) async throws(FanfareError) -> DeadLetterCount {
        try await self.read("count_dead_letters") { session in
            let rows = try session.query(
                """
                SELECT count(*), COALESCE(max(d.id), 0) FROM dead_letters d
                WHERE \(DeadLetterFilter.condition) AND $15::bigint IS NOT NULL
                """, filter.parameters)
            return DeadLetterCount(count: try rows.int(0, 0), lastID: try rows.int64(0, 1))
        }
    }

    package func settleDeadLetters(
        _ which: DeadLetterSelection, as settlement: DeadLetterSettlement, isTrial: Bool
    ) async throws(FanfareError) -> Int {
        let call = self.callKey()
        let count = try await self.request("settle_dead_letters") { session in
            let chosen = try session.choose(which, call: call)
            // Run again after a COMMIT whose answer was lost: it is done.
            if chosen.settledBefore > 0 { return chosen.settledBefore }
            if !isTrial { try session.settle(chosen.ids, as: settlement, by: call) }
            return chosen.ids.count
        }
        if !isTrial { self.metrics.settled(settlement, count) }
        return count
    }

    package func replayDeadLetters(_ ids: [Int64]) async throws(FanfareError) -> Int {
        try await self.settleDeadLetters(.ids(ids), as: .replay, isTrial: false)
    }

    package func discardDeadLetters(_ ids: [Int64]) async throws(FanfareError) -> Int {
        try await self.settleDeadLetters(.ids(ids), as: .discard, isTrial: false)
    }
}

// MARK: Choosing

extension DeadLetterFilter {
    /// Of `dead_letters d`, with `parameters` but for the last one, the limit.
    fileprivate static let condition = """
        d.id > $1 AND ($2::bigint IS NULL OR d.id <= $2) AND ($3::bigint IS NULL OR d.event_id = $3)
        AND ($4::text IS NULL OR d.kind = $4) AND ($5::text IS NULL OR d.endpoint = $5)
        AND ($6::text IS NULL OR d.error_class = $6) AND ($7::text IS NULL OR d.sql_state = $7)
        AND ($8::text IS NULL OR d.streamer = (SELECT id FROM users WHERE name = $8))
        AND ($9::text IS NULL OR d.user_id = (SELECT id FROM users WHERE name = $9))
        AND ($10::bigint IS NULL OR d.last_failed_at <= now() - $10 * interval '1 second')
        AND ($11::bigint IS NULL OR d.last_failed_at >= now() - $11 * interval '1 second')
        AND (NOT $12 OR d.id = ANY($13)) AND ($14 OR d.state = 0)
        """

    fileprivate var parameters: [PostgresValue] {
        [
            .int8(self.after), .int8(self.upTo), .int8(self.event?.rawValue), .text(self.kind), .text(self.endpoint),
            .text(self.errorClass?.rawValue), .text(self.sqlState), .text(self.streamer?.rawValue),
            .text(self.user?.rawValue), .int8(self.minimumAge.map { $0.components.seconds }),
            .int8(self.maximumAge.map { $0.components.seconds }), .bool(self.ids != nil), .int8s(self.ids ?? []),
            .bool(self.includesSettled), .int8(Int64(min(max(self.limit, 1), 1000))),
        ]
    }
}

extension PostgresRows {
    fileprivate func deadLetter(_ row: Int) throws(PostgresError) -> DeadLetter {
        let state: DeadLetter.State =
            switch try self.int(row, 11) {
            case 0: .dead
            case 1: .replayed
            default: .discarded
            }
        return DeadLetter(
            id: try self.int64(row, 0), kind: try self.string(row, 1), endpoint: try self.string(row, 12),
            errorClass: DeadLetter.ErrorClass(rawValue: try self.string(row, 13)) ?? .other,
            orderKey: try self.string(row, 14), streamer: try self.stringOrNil(row, 15).map(UserID.init(unchecked:)),
            event: try self.int64OrNil(row, 2).map(EventID.init),
            user: try self.stringOrNil(row, 3).map(UserID.init(unchecked:)),
            shard: try self.int64OrNil(row, 4).map { Shard(index: Int($0)) }, payload: try self.bytes(row, 5),
            cause: try self.string(row, 6), sqlState: try self.stringOrNil(row, 7), attempts: try self.int(row, 8),
            firstFailedAt: try self.timestamp(row, 9), lastFailedAt: try self.timestamp(row, 10), state: state,
            replayOf: try self.int64OrNil(row, 16), settledAt: try self.timestampOrNil(row, 17))
    }
}

extension PostgresSession {
    /// Locks the letters meant until the transaction ends.
    /// - Returns: those that wait, and how many this very call has settled before.
    /// - Throws: `FanfareError` where one that was named does not wait.
    fileprivate func choose(
        _ which: DeadLetterSelection, call: String
    ) throws -> (ids: [Int64], settledBefore: Int) {
        switch which {
        case .ids(let named):
            let named = Set(named)
            guard named.count <= 1000 else { throw FanfareError.limitExceeded("1000 dead letters at a time") }
            let rows = try self.query(
                """
                SELECT id, state, COALESCE(settled_by = $2, false) FROM dead_letters WHERE id = ANY($1)
                ORDER BY id FOR UPDATE
                """, [.int8s(named.sorted()), .text(call)])
            var found: [Int64] = []
            var settledBefore = 0
            for row in rows.indices {
                let id = try rows.int64(row, 0)
                let state = try rows.int(row, 1)
                if try rows.bool(row, 2) {
                    settledBefore += 1
                } else if state != 0 {
                    throw FanfareError.badRequest(
                        "dead letter \(id) was \(state == 1 ? "replayed" : "discarded") already: nothing was done")
                }
                found.append(id)
            }
            if let missing = named.subtracting(found).min() {
                throw FanfareError.badRequest("there is no dead letter \(missing): nothing was done")
            }
            return (found, settledBefore)
        case .matching(let filter):
            let settled = try self.query(
                "SELECT count(*) FROM dead_letters WHERE settled_by = $1", [.text(call)]
            ).int(0, 0)
            if settled > 0 { return ([], settled) }
            let rows = try self.query(
                """
                SELECT d.id FROM dead_letters d WHERE \(DeadLetterFilter.condition) AND d.state = 0
                ORDER BY d.event_id, d.id LIMIT $15 FOR UPDATE
                """, filter.parameters)
            var found: [Int64] = []
            for row in rows.indices { found.append(try rows.int64(row, 0)) }
            return (found, 0)
        }
    }

    // MARK: Settling

    /// Settles letters that wait, with all that follows from it.
    func settle(_ ids: [Int64], as settlement: DeadLetterSettlement, by call: String) throws(PostgresError) {
        guard !ids.isEmpty else { return }
        let state: Int16 = settlement == .replay ? 1 : 2
        try self.query(
            "UPDATE dead_letters SET state = $2, settled_at = now(), settled_by = $3 WHERE id = ANY($1) AND state = 0",
            [.int8s(ids), .int2(state), .text(call)])
        switch settlement {
        case .replay: try self.replayLetters(ids)
        case .discard: try self.discardLetters(ids)
        }
    }

    /// Event by event: a shard works its jobs in the order of their ids, so those of one order key stay in order.
    private func replayLetters(_ ids: [Int64]) throws(PostgresError) {
        let events = try self.query(
            "SELECT DISTINCT event_id FROM dead_letters WHERE id = ANY($1) AND event_id IS NOT NULL ORDER BY 1",
            [.int8s(ids)])
        for row in events.indices {
            let event = try events.int64(row, 0)
            // A job goes on from its cursor, behind those that were made meanwhile.
            try self.query(
                """
                UPDATE fanout_jobs j SET id = DEFAULT, state = 0, attempts = 0, row_failures = 0,
                    first_failed_at = NULL, run_at = now()
                FROM dead_letters d
                WHERE d.id = ANY($1) AND d.event_id = $2 AND d.kind = 'fanout' AND d.job_id = j.id AND j.state = 1
                """, [.int8s(ids), .int8(event)])
            // Single users become one job per event and shard, apart from the event's own.
            try self.query(
                """
                INSERT INTO fanout_jobs (event_id, shard, is_replay, user_ids)
                SELECT event_id, shard, true, array_agg(DISTINCT user_id ORDER BY user_id) FROM dead_letters
                WHERE id = ANY($1) AND event_id = $2 AND kind = 'fanout' AND user_id IS NOT NULL
                GROUP BY event_id, shard ORDER BY shard
                """, [.int8s(ids), .int8(event)])
        }
        try self.query(
            """
            UPDATE outbox o SET is_dead = false FROM dead_letters d
            WHERE d.id = ANY($1) AND d.kind = 'outbox' AND d.event_id = o.event_id
            """, [.int8s(ids)])
    }

    private func discardLetters(_ ids: [Int64]) throws(PostgresError) {
        let gone = try self.query(
            """
            DELETE FROM fanout_jobs j USING dead_letters d
            WHERE d.id = ANY($1) AND d.kind = 'fanout' AND d.job_id = j.id AND j.state = 1 RETURNING j.event_id
            """, [.int8s(ids)])
        var events: Set<EventID> = []
        for row in gone.indices { events.insert(EventID(try gone.int64(row, 0))) }
        if !events.isEmpty { try self.completeEvents(events.sorted()) }
        try self.query(
            """
            WITH gone AS (
                DELETE FROM outbox o USING dead_letters d
                WHERE d.id = ANY($1) AND d.kind = 'outbox' AND d.event_id = o.event_id AND o.is_dead
                RETURNING o.event_id
            )
            UPDATE fanouts f SET shards_total = 0, total = 0, completed_at = clock_timestamp() FROM gone g
            WHERE f.event_id = g.event_id
            """, [.int8s(ids)])
    }
}
