package import FanfareEngines
package import FanfareModel

extension PostgresStore {
    package func control(_ event: EventID, _ control: EventControl) async throws(FanfareError) -> EventState {
        let call = self.callKey()
        return try await self.request("control_event") { session in
            // In the order in which the relay locks them.
            let waits = try !session.query(
                "SELECT FROM outbox WHERE event_id = $1 FOR UPDATE", [.int8(event.rawValue)]
            ).isEmpty
            guard var phase = try session.lockPhase(of: event) else {
                throw FanfareError.badRequest("unknown event_id")
            }
            let before = phase
            try phase.control(control)
            if phase.state == .cancelled {
                if before.state != .cancelled { try session.cancel(event, isRelayed: !waits, call) }
            } else if phase != before {
                try session.query(
                    "UPDATE fanouts SET state = $2 WHERE event_id = $1",
                    [.int8(event.rawValue), .int2(phase.state.rawValue)])
            }
            return phase.shown(isRelayed: !waits)
        }
    }
}

extension PostgresSession {
    /// Nothing more is written of the event. Its shards take back what is unread, a step at a time.
    fileprivate func cancel(_ event: EventID, isRelayed: Bool, _ call: String) throws(PostgresError) {
        let rows = try self.query(
            "SELECT id FROM dead_letters WHERE event_id = $1 AND state = 0 ORDER BY id FOR UPDATE",
            [.int8(event.rawValue)])
        var letters: [Int64] = []
        for row in rows.indices { letters.append(try rows.int64(row, 0)) }
        try self.settle(letters, as: .discard, by: call)
        try self.query(
            """
            UPDATE fanouts SET state = 2, held_until = NULL,
                completed_at = CASE WHEN $2 THEN completed_at ELSE COALESCE(completed_at, clock_timestamp()) END,
                shards_total = CASE WHEN $2 THEN shards_total ELSE 0 END
            WHERE event_id = $1
            """, [.int8(event.rawValue), .bool(isRelayed)])
        try self.query("DELETE FROM outbox WHERE event_id = $1", [.int8(event.rawValue)])
        try self.query(
            "DELETE FROM fanout_jobs WHERE event_id = $1 AND NOT is_withdrawal", [.int8(event.rawValue)])
        try self.query(
            """
            INSERT INTO fanout_jobs (event_id, streamer, shard, reach, user_ids, is_withdrawal)
            SELECT f.event_id, f.streamer, s.shard, f.reach, COALESCE(n.user_ids, '{}'), true
            FROM fanouts f CROSS JOIN unnest(f.shards) AS s (shard)
            LEFT JOIN fanout_named n ON n.event_id = f.event_id AND n.shard = s.shard
            WHERE f.event_id = $1
            """, [.int8(event.rawValue)])
    }
}
