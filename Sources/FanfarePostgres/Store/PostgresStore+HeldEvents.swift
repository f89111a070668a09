package import FanfareEngines
import FanfareModel

extension PostgresSession {
    /// Locks the event's fan-out until the transaction ends. Whoever needs the outbox row, too, locks that first.
    func lockPhase(of event: EventID) throws(PostgresError) -> FanoutPhase? {
        let rows = try self.query(
            "SELECT state, held_until IS NOT NULL, completed_at IS NOT NULL FROM fanouts WHERE event_id = $1 FOR UPDATE",
            [.int8(event.rawValue)])
        guard !rows.isEmpty else { return nil }
        return FanoutPhase(
            state: FanoutState(rawValue: Int16(try rows.int64(0, 0))) ?? .open, isHeld: try rows.bool(0, 1),
            isDone: try rows.bool(0, 2))
    }

    /// The stream of a go-live ended: what was not sent is held, as long as the stream may go on.
    func holdEvent(_ event: EventID, of stream: Int64, holdOff: Int64, isWithin: Bool) throws(PostgresError) {
        guard isWithin, var phase = try self.lockPhase(of: event) else { return }
        let before = phase
        phase.streamStopped(isWithinHoldOff: isWithin)
        guard phase != before else { return }
        try self.query(
            """
            UPDATE fanouts SET held_until = s.started_at + $3 * interval '1 millisecond'
            FROM streams s WHERE fanouts.event_id = $1 AND s.id = $2
            """, [.int8(event.rawValue), .int8(stream), .int8(holdOff)])
    }

    /// The stream is started again.
    /// - Returns: whether its event goes on.
    func releaseEvent(_ event: EventID) throws(PostgresError) -> Bool {
        guard var phase = try self.lockPhase(of: event) else { return false }
        let wasHeld = phase.isHeld
        guard phase.streamResumed() else { return false }
        if wasHeld {
            try self.query("UPDATE fanouts SET held_until = NULL WHERE event_id = $1", [.int8(event.rawValue)])
        }
        return true
    }
}

extension PostgresStore {
    /// Held events whose streams can no longer go on: gives up what was not sent. Done by whoever maintains the store.
    /// - Returns: how many were given up.
    @discardableResult
    package func endHeldEvents() async throws(EngineError) -> Int {
        try await self.endHeldEvents(try await self.work("held_events") { session in try session.overdueEvents() })
    }

    func endHeldEvents(_ events: [EventID]) async throws(EngineError) -> Int {
        var count = 0
        for event in events {
            count += try await self.work("end_held_event") { session in try session.endHeldEvent(event) } ? 1 : 0
        }
        return count
    }
}

extension PostgresSession {
    /// Held events whose hold-off is over.
    func overdueEvents() throws(PostgresError) -> [EventID] {
        let rows = try self.query(
            "SELECT event_id FROM fanouts WHERE held_until <= clock_timestamp() ORDER BY held_until LIMIT 1000")
        var events: [EventID] = []
        for row in rows.indices { events.append(EventID(try rows.int64(row, 0))) }
        return events
    }

    /// - Returns: whether something was given up.
    fileprivate func endHeldEvent(_ event: EventID) throws(PostgresError) -> Bool {
        let waits = try !self.query(
            "SELECT FROM outbox WHERE event_id = $1 FOR UPDATE", [.int8(event.rawValue)]
        ).isEmpty
        guard var phase = try self.lockPhase(of: event), phase.isHeld,
            // It may have gone on meanwhile, and stopped again.
            try self.query(
                "SELECT held_until <= clock_timestamp() FROM fanouts WHERE event_id = $1", [.int8(event.rawValue)]
            ).bool(0, 0)
        else { return false }
        let ends = phase.holdOffPassed()
        try self.query(
            """
            UPDATE fanouts SET held_until = NULL, state = $2,
                completed_at = CASE WHEN $3 THEN clock_timestamp() ELSE completed_at END,
                shards_total = CASE WHEN $3 THEN 0 ELSE shards_total END
            WHERE event_id = $1
            """, [.int8(event.rawValue), .int2(phase.state.rawValue), .bool(ends && waits)])
        guard ends else { return false }
        try self.query("DELETE FROM outbox WHERE event_id = $1", [.int8(event.rawValue)])
        // What was written is settled and counted as always. Dead letters stay what they are: operators decide.
        try self.query(
            """
            DELETE FROM fanout_jobs j USING fanouts f
            WHERE j.event_id = $1 AND f.event_id = $1 AND j.state = 0 AND NOT j.is_written AND NOT j.is_withdrawal
                AND NOT j.is_replay AND NOT (f.is_broadcast AND j.cursor > 0)
            """, [.int8(event.rawValue)])
        try self.completeEvents([event])
        return true
    }
}
