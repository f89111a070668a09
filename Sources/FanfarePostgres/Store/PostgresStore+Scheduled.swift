package import FanfareEngines
package import FanfareModel
import Logging
import Metrics

extension PostgresStore {
    /// How far ahead one may lie, and for how long those that are settled are listed.
    private static let horizon = "366 days"
    private static let keptFor = "7 days"

    package func schedule(_ notification: NotificationRequest, at time: Timestamp) async throws(FanfareError) -> Int64 {
        let content = try NotificationContent(notification)
        let once = self.once(
            scope: "schedule", key: notification.idempotencyKey,
            content: OnceContent([String(time.milliseconds)] + content.parts))
        return try await self.request("schedule") { session in
            try session.lock(once)
            if let first = try session.first(once) { return first.event.rawValue }
            let (streamer, users) = try session.audience(content)
            let state = try session.query(
                """
                SELECT (SELECT count(*) FROM scheduled_events WHERE state = 0),
                    \(PostgresSession.time("$1")) <= now() + interval '\(Self.horizon)'
                """, [.int8(time.milliseconds)])
            guard try state.bool(0, 1) else {
                throw FanfareError.badRequest("'at' is farther ahead than \(Self.horizon)")
            }
            let limit = self.configuration.scheduledEventsLimit
            guard try state.int(0, 0) < limit else {
                self.metrics.schedulesRefused.increment()
                throw FanfareError.limitExceeded("\(limit) scheduled events wait")
            }
            return try session.query(
                """
                WITH scheduled AS (
                    INSERT INTO scheduled_events (streamer, due_at, run_at, time_to_live, type, data, user_ids)
                    SELECT $1, time, time, $3, $4, $5, $6 FROM (SELECT \(PostgresSession.time("$2")) AS time) due
                    RETURNING id
                ), key AS (
                    INSERT INTO idempotency_keys (scope, key, content, event_id)
                    SELECT $7, $8, sha256($9), id FROM scheduled
                )
                SELECT id FROM scheduled
                """,
                [
                    .int8(streamer), .int8(time.milliseconds),
                    .int4(notification.timeToLive.map { Int32(clamping: $0) }), .text(content.type),
                    .text(content.data), .int8s(users), .text(once.scope), .text(once.key), .bytea(once.content),
                ]
            ).onlyInt64()
        }
    }

    package func scheduledEvents(_ filter: ScheduledEventFilter) async throws(FanfareError) -> [ScheduledEvent] {
        try await self.read("scheduled_events") { session in
            let rows = try session.query(
                """
                SELECT e.id, e.type, e.due_at, e.created_at, e.state, u.name, cardinality(e.user_ids), e.attempts,
                    e.event_id
                FROM scheduled_events e LEFT JOIN users u ON u.id = e.streamer
                WHERE e.id > $1 AND (e.state = 0 OR $2) ORDER BY e.id LIMIT $3
                """,
                [
                    .int8(filter.after), .bool(filter.includesSettled),
                    .int8(Int64(min(max(filter.limit, 1), 1000))),
                ])
            var events: [ScheduledEvent] = []
            for row in rows.indices {
                let state = try rows.int(row, 4)
                events.append(
                    ScheduledEvent(
                        id: try rows.int64(row, 0), type: try rows.string(row, 1), dueAt: try rows.timestamp(row, 2),
                        createdAt: try rows.timestamp(row, 3),
                        state: state == 0 ? .waiting : state == 1 ? .sent : .cancelled,
                        streamer: try rows.stringOrNil(row, 5).map(UserID.init(unchecked:)),
                        users: try rows.int(row, 6),
                        attempts: try rows.int(row, 7), event: try rows.int64OrNil(row, 8).map { EventID($0) }))
            }
            return events
        }
    }

    package func cancelScheduled(_ id: Int64) async throws(FanfareError) {
        try await self.request("cancel_scheduled") { session in
            let rows = try session.query("SELECT state FROM scheduled_events WHERE id = $1 FOR UPDATE", [.int8(id)])
            guard !rows.isEmpty else { throw FanfareError.badRequest("unknown scheduled event") }
            guard try rows.int(0, 0) != 1 else { throw FanfareError.badRequest("the event was sent already") }
            try session.query(
                """
                UPDATE scheduled_events SET state = 2, settled_at = clock_timestamp(), data = '', user_ids = '{}'
                WHERE id = $1 AND state = 0
                """, [.int8(id)])
        }
    }

    package func sendScheduled(limit: Int) async throws(EngineError) -> ScheduledRound {
        var sent = 0
        for _ in 0..<max(1, limit) {
            // Each in a transaction of its own: none waits for the locks of another's streamer.
            let next = try await self.work("send_scheduled") { session in try session.nextScheduled() }
            guard let next else { break }
            do {
                if try await self.work("send_scheduled", { session in try session.sendScheduled(next) }) { sent += 1 }
            } catch {
                guard !error.isRetryable else { throw error }
                // It must not hold up the others; operators see it in the list.
                self.logger.error(
                    "a scheduled event cannot be sent", metadata: ["id": "\(next)", "error": "\(error)"])
                try await self.work("put_off_scheduled") { session in
                    _ = try session.query(
                        """
                        UPDATE scheduled_events SET attempts = attempts + 1,
                            run_at = clock_timestamp() + interval '1 minute' * LEAST(60, attempts + 1)
                        WHERE id = $1 AND state = 0
                        """, [.int8(next)])
                }
            }
        }
        let (count, wait) = (
            sent, try await self.work("next_scheduled") { session in try session.untilNextScheduled() }
        )
        return ScheduledRound(sent: count, next: wait.map { .milliseconds($0) })
    }

    /// Forgets those that were settled long ago, and measures what waits.
    func tendScheduled(_ session: PostgresSession) throws(PostgresError) {
        try session.query(
            """
            DELETE FROM scheduled_events WHERE id IN (
                SELECT id FROM scheduled_events
                WHERE state > 0 AND settled_at < now() - interval '\(Self.keptFor)' LIMIT 1000
            )
            """)
        let rows = try session.query(
            """
            SELECT count(*), GREATEST(0, extract(epoch FROM now() - min(due_at)))::bigint
            FROM scheduled_events WHERE state = 0
            """)
        self.metrics.scheduledEvents.record(try rows.int64(0, 0))
        self.metrics.scheduledLag.record(try rows.int64(0, 1))
    }
}

/// What a notification is, checked.
struct NotificationContent: Sendable {
    let type: String
    let data: String
    let users: [UserID]
    let streamer: UserID?
    private let timeToLive: Int?

    init(_ notification: NotificationRequest) throws(FanfareError) {
        guard !notification.data.contains(0), let data = String(validating: notification.data, as: UTF8.self) else {
            throw .badRequest("data is not JSON text")
        }
        switch notification.audience {
        case .users(let users):
            guard !users.isEmpty else { throw .badRequest("users is empty") }
            var seen: Set<UserID> = []
            self.users = users.filter { seen.insert($0).inserted }
            self.streamer = nil
        case .followers(let streamer):
            self.users = []
            self.streamer = streamer
        }
        self.type = notification.type
        self.data = data
        self.timeToLive = notification.timeToLive
    }

    /// What an idempotency key stands for.
    var parts: [String] {
        let audience = self.streamer.map { ["followers", $0.rawValue] } ?? self.users.map(\.rawValue).sorted()
        return [self.type, self.data] + audience + (self.timeToLive.map { ["ttl", String($0)] } ?? [])
    }
}

extension PostgresSession {
    /// - Throws: `FanfareError` 1003 where one of them was never seen.
    func audience(_ content: NotificationContent) throws -> (streamer: Int64?, users: [Int64]) {
        let named = content.streamer.map { [$0] } ?? content.users
        let known = try self.userIDs(named[...])
        if let unknown = named.first(where: { known[$0] == nil }) { throw FanfareError.unknownUser(unknown.rawValue) }
        return (content.streamer.flatMap { known[$0] }, content.users.compactMap { known[$0] })
    }

    fileprivate func nextScheduled() throws(PostgresError) -> Int64? {
        let rows = try self.query(
            """
            SELECT id FROM scheduled_events WHERE state = 0 AND run_at <= clock_timestamp() ORDER BY run_at, id LIMIT 1
            """)
        return rows.isEmpty ? nil : try rows.int64(0, 0)
    }

    /// Makes it an event. What another node sends just now is awaited, and then left.
    /// - Returns: whether it was sent.
    fileprivate func sendScheduled(_ id: Int64) throws(PostgresError) -> Bool {
        let rows = try self.query(
            "SELECT streamer, time_to_live, type, data FROM scheduled_events WHERE id = $1 AND state = 0 FOR UPDATE",
            [.int8(id)])
        guard !rows.isEmpty else { return false }
        let streamer = try rows.int64OrNil(0, 0)
        if let streamer { try self.lockEvents(of: streamer) }
        let event = try self.accept(
            type: try rows.string(0, 2), data: try rows.string(0, 3), streamer: streamer, users: [],
            Once(scope: "scheduled", key: String(id), content: [], isCallers: true), stream: nil,
            timeToLive: try rows.int64OrNil(0, 1).map(Int.init))
        try self.query(
            "UPDATE outbox SET user_ids = s.user_ids FROM scheduled_events s WHERE s.id = $1 AND outbox.event_id = $2",
            [.int8(id), .int8(event.rawValue)])
        try self.query(
            """
            UPDATE scheduled_events
            SET state = 1, settled_at = clock_timestamp(), event_id = $2, data = '', user_ids = '{}' WHERE id = $1
            """, [.int8(id), .int8(event.rawValue)])
        return true
    }

    /// Milliseconds.
    fileprivate func untilNextScheduled() throws(PostgresError) -> Int64? {
        let rows = try self.query(
            """
            SELECT ceil(extract(epoch FROM min(run_at) - clock_timestamp()) * 1000)::bigint
            FROM scheduled_events WHERE state = 0
            """)
        return try rows.int64OrNil(0, 0).map { max(0, $0) }
    }
}
