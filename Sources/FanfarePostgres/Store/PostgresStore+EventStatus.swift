package import FanfareEngines
package import FanfareModel

extension PostgresStore {
    package func eventStatus(_ event: EventID) async throws(FanfareError) -> EventStatus {
        try await self.read("event_status") { session in
            guard let status = try session.statuses(of: [event.rawValue]).first else {
                throw FanfareError.badRequest("unknown event_id")
            }
            return status
        }
    }

    package func events(_ filter: EventFilter) async throws(FanfareError) -> EventPage {
        let span = Int64(max(1, self.configuration.eventsSearched))
        return try await self.read("events") { session in
            let found = try session.search(filter, span: span)
            return EventPage(
                events: try session.statuses(of: found.events), next: found.next.map { EventID($0) })
        }
    }
}

extension PostgresSession {
    /// - Returns: newest first; without those that do not exist.
    fileprivate func statuses(of events: [Int64]) throws(PostgresError) -> [EventStatus] {
        guard !events.isEmpty else { return [] }
        // One statement: tallies move from one table to the other between two.
        let rows = try self.query(
            """
            SELECT e.type, e.created_at, f.completed_at, COALESCE(f.shards_total, 0),
                CASE
                    WHEN f.number IS NULL OR f.completed_at IS NOT NULL THEN COALESCE(f.shards_total, 0)
                    ELSE f.shards_total - (
                        SELECT count(*)::int FROM shards s WHERE s.shard = ANY(f.shards) AND (
                            s.settled_position < f.number OR EXISTS (
                                SELECT FROM fanout_jobs j
                                WHERE j.event_id = f.event_id AND j.shard = s.shard AND NOT j.is_replay
                            )
                        )
                    )
                END,
                f.recipients + COALESCE(t.recipients, 0)::bigint,
                f.delivered_online + COALESCE(t.delivered, 0)::bigint,
                (SELECT count(*) FROM dead_letters d WHERE d.event_id = e.id AND d.state = 0),
                f.state, f.number IS NOT NULL, f.total, f.withdrawn + COALESCE(t.withdrawn, 0)::bigint, f.priority,
                -- A thousandth of a row per second.
                COALESCE(CASE
                    WHEN f.completed_at IS NOT NULL THEN
                        f.recipients / GREATEST(0.001, extract(epoch FROM f.completed_at - f.relayed_at))
                    ELSE
                        t.lately
                        / GREATEST(0.001, LEAST(10, extract(epoch FROM clock_timestamp() - f.relayed_at)))
                END * 1000, 0)::bigint,
                e.id, u.name, f.held_until IS NOT NULL
            FROM events e JOIN fanouts f ON f.event_id = e.id
            LEFT JOIN users u ON u.id = e.streamer
            CROSS JOIN LATERAL (
                SELECT sum(recipients) AS recipients, sum(delivered) AS delivered, sum(withdrawn) AS withdrawn,
                    sum(recipients) FILTER (WHERE written_at > clock_timestamp() - interval '10 seconds') AS lately
                FROM fanout_tallies WHERE event_id = e.id
            ) t
            WHERE e.id = ANY($1) ORDER BY e.id DESC
            """, [.int8s(events)])
        var statuses: [EventStatus] = []
        for row in rows.indices { statuses.append(try rows.eventStatus(row)) }
        return statuses
    }

    /// - Parameter span: ids that it goes through at the most where no index leads to what is wanted.
    /// - Returns: newest first, and where to go on.
    fileprivate func search(_ filter: EventFilter, span: Int64) throws(PostgresError) -> (events: [Int64], next: Int64?)
    {
        let limit = min(max(filter.limit, 1), 200)
        var conditions = ["f.event_id < $1", "f.event_id >= $2"]
        var parameters: [PostgresValue] = [.int8(filter.before?.rawValue ?? .max)]
        let states = filter.states ?? Set(EventState.allCases)
        // What is open has an index of its own; of the rest one look goes so far and no farther.
        let isOpen = filter.states.map { $0.isDisjoint(with: [.done, .cancelled, .stopped]) } ?? true
        var floor: Int64 = 0
        if isOpen {
            conditions.append("f.completed_at IS NULL")
        } else if filter.streamer == nil, states.count < EventState.allCases.count || filter.type != nil {
            let top = try self.query("SELECT max(event_id) FROM fanouts WHERE event_id < $1", parameters)
            guard let top = try top.int64OrNil(0, 0) else { return ([], nil) }
            floor = max(0, top + 1 - span)
        }
        parameters.append(.int8(floor))
        if filter.states != nil, states.count < EventState.allCases.count {
            let clauses = states.map(\.condition).sorted().map { "(\($0))" }
            conditions.append("(" + (clauses.isEmpty ? "false" : clauses.joined(separator: " OR ")) + ")")
        }
        if let type = filter.type {
            parameters.append(.text(type))
            conditions.append("e.type = $\(parameters.count)")
        }
        if let streamer = filter.streamer {
            parameters.append(.text(streamer.rawValue))
            conditions.append("e.streamer = (SELECT id FROM users WHERE name = $\(parameters.count))")
        }
        parameters.append(.int8(Int64(limit + 1)))
        let rows = try self.query(
            """
            SELECT f.event_id FROM fanouts f JOIN events e ON e.id = f.event_id
            WHERE \(conditions.joined(separator: " AND "))
            ORDER BY f.event_id DESC LIMIT $\(parameters.count)
            """, parameters)
        var events: [Int64] = []
        for row in rows.indices { events.append(try rows.int64(row, 0)) }
        if events.count > limit {
            events.removeLast()
            return (events, events.last)
        }
        guard floor > 0 else { return (events, nil) }
        let rest = try self.query(
            "SELECT EXISTS (SELECT FROM fanouts WHERE event_id < $1)", [.int8(floor)]
        ).bool(0, 0)
        return (events, rest ? floor : nil)
    }
}

extension EventState {
    /// Of a row `f` of `fanouts`: the same as `FanoutPhase.shown`.
    fileprivate var condition: String {
        switch self {
        case .waiting: "f.state = 0 AND f.held_until IS NULL AND f.completed_at IS NULL AND f.number IS NULL"
        case .running: "f.state = 0 AND f.held_until IS NULL AND f.completed_at IS NULL AND f.number IS NOT NULL"
        case .paused: "f.state = 1 AND f.completed_at IS NULL"
        case .cancelled: "f.state = 2"
        case .done: "f.state IN (0, 1) AND f.completed_at IS NOT NULL"
        case .stopped: "f.state = 3 OR f.state = 0 AND f.held_until IS NOT NULL AND f.completed_at IS NULL"
        }
    }
}

extension PostgresRows {
    fileprivate func eventStatus(_ row: Int) throws(PostgresError) -> EventStatus {
        let completedAt = try self.timestampOrNil(row, 2)
        let recipients = try self.int(row, 5)
        let phase = FanoutPhase(
            state: FanoutState(rawValue: Int16(try self.int64(row, 8))) ?? .open, isHeld: try self.bool(row, 16),
            isDone: completedAt != nil)
        return EventStatus(
            event: EventID(try self.int64(row, 14)), type: try self.string(row, 0),
            streamer: try self.stringOrNil(row, 15).map(UserID.init(unchecked:)),
            acceptedAt: try self.timestamp(row, 1), shardsTotal: try self.int(row, 3),
            shardsDone: try self.int(row, 4), recipients: recipients, deliveredOnline: try self.int(row, 6),
            deadLetters: try self.int(row, 7), completedAt: completedAt,
            state: phase.shown(isRelayed: try self.bool(row, 9)),
            total: try self.int64OrNil(row, 10).map(Int.init) ?? (completedAt == nil ? nil : recipients),
            withdrawn: try self.int(row, 11), priority: try self.int(row, 12),
            rate: Double(try self.int64(row, 13)) / 1000)
    }
}
