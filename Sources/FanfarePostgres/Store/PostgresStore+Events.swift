package import FanfareEngines
package import FanfareModel

extension PostgresStore {
    package func startStream(_ start: StreamStart) async throws(FanfareError) -> StartedStream {
        let ids = try await self.ids(of: [start.streamer], "start_stream")
        guard let streamer = ids[start.streamer] else { throw .internal }
        let once = self.once(
            scope: "start_stream:\(start.streamer)", key: start.idempotencyKey,
            content: OnceContent([start.title] + start.tags))
        let holdOff = self.configuration.holdOff
        return try await self.request("start_stream") { session in
            try session.lock(once)
            try session.lockEvents(of: streamer)
            if let first = try session.first(once) {
                guard let stream = first.stream else { throw FanfareError.duplicateWithAnotherContent }
                return try session.firstStart(stream, first.event, start.streamer, isDuplicate: once.isCallers)
            }
            if let resumed = try session.resumeStream(start, streamer, within: holdOff, once) { return resumed }
            let inserted = try session.query(
                "INSERT INTO streams (streamer, title, tags) VALUES ($1, $2, $3) RETURNING id, started_at",
                [.int8(streamer), .text(start.title), .texts(start.tags)])
            let stream = StreamRecord(
                id: String(try inserted.int64(0, 0)), streamer: start.streamer, title: start.title, tags: start.tags,
                isLive: true, startedAt: try inserted.timestamp(0, 1))
            let data = JSONText.object([
                ("stream_id", stream.id), ("streamer", start.streamer.rawValue), ("title", start.title),
            ])
            let event = try session.accept(
                type: "stream.live", data: data, streamer: streamer, users: [], once, stream: try inserted.int64(0, 0))
            return StartedStream(stream: stream, event: event, isDuplicate: false)
        }
    }

    package func stopStream(_ which: StreamReference) async throws(FanfareError) -> StreamRecord {
        let call = self.callKey()
        var id: Int64?
        var name: UserID?
        switch which {
        case .streamer(let streamer): name = streamer
        case .id(let text): id = Int64(text) ?? -1
        case .idOfStreamer(let text, let streamer):
            id = Int64(text) ?? -1
            name = streamer
        }
        let (stream, streamer) = (id, name)
        let holdOff = self.configuration.holdOff.milliseconds
        return try await self.request("stop_stream") { session in
            // After a COMMIT whose answer was lost, the row is found by the call that ended it.
            let rows = try session.query(
                """
                WITH ended AS (
                    UPDATE streams s SET ended_at = clock_timestamp(), ended_by = $3
                    FROM users u
                    WHERE u.id = s.streamer AND s.ended_at IS NULL
                        AND (s.id = $1 OR $1 IS NULL) AND (u.name = $2 OR $2 IS NULL)
                    RETURNING s.id, u.name, s.title, s.tags, s.started_at, s.ended_at, s.event_id,
                        s.started_at > clock_timestamp() - $4 * interval '1 millisecond'
                )
                SELECT * FROM ended
                UNION ALL
                SELECT s.id, u.name, s.title, s.tags, s.started_at, s.ended_at, NULL, false
                FROM streams s JOIN users u ON u.id = s.streamer
                WHERE s.ended_by = $3 AND (s.id = $1 OR $1 IS NULL) AND (u.name = $2 OR $2 IS NULL)
                """, [.int8(stream), .text(streamer?.rawValue), .text(call), .int8(holdOff)])
            guard !rows.isEmpty else { throw FanfareError.notLive }
            if let event = try rows.int64OrNil(0, 6) {
                try session.holdEvent(
                    EventID(event), of: try rows.int64(0, 0), holdOff: holdOff, isWithin: try rows.bool(0, 7))
            }
            return StreamRecord(
                id: String(try rows.int64(0, 0)), streamer: UserID(unchecked: try rows.string(0, 1)),
                title: try rows.string(0, 2), tags: try rows.texts(0, 3), isLive: false,
                startedAt: try rows.timestamp(0, 4), endedAt: try rows.timestamp(0, 5))
        }
    }

    package func notify(_ notification: NotificationRequest) async throws(FanfareError) -> EventID {
        let content = try NotificationContent(notification)
        let once = self.once(scope: "notify", key: notification.idempotencyKey, content: OnceContent(content.parts))
        return try await self.request("notify") { session in
            try session.lock(once)
            let (streamer, users) = try session.audience(content)
            if let streamer { try session.lockEvents(of: streamer) }
            if let first = try session.first(once) { return first.event }
            return try session.accept(
                type: content.type, data: content.data, streamer: streamer, users: users, once, stream: nil,
                timeToLive: notification.timeToLive)
        }
    }
}

extension PostgresSession {
    /// Writes the event, its place in the outbox, and what makes it happen once.
    func accept(
        type: String, data: String, streamer: Int64?, users: [Int64], _ once: Once, stream: Int64?,
        timeToLive: Int? = nil
    ) throws(PostgresError) -> EventID {
        let rows = try self.query(
            """
            WITH event AS (
                INSERT INTO events (type, streamer, data, stream_id, expires_at)
                VALUES ($1, $2, $3, $9, clock_timestamp() + $10::int * interval '1 second') RETURNING id
            ), fanout AS (
                INSERT INTO fanouts (event_id, streamer) SELECT id, $2 FROM event
            ), outgoing AS (
                INSERT INTO outbox (event_id, streamer, reach, user_ids) SELECT id, $2, $4, $5 FROM event
            ), key AS (
                INSERT INTO idempotency_keys (scope, key, content, event_id, stream_id)
                SELECT $6, $7, sha256($8), id, $9 FROM event
            ), stream AS (
                UPDATE streams SET event_id = event.id FROM event WHERE streams.id = $9
            )
            SELECT id FROM event
            """,
            [
                .text(type), .int8(streamer), .text(data), .int2(NotifyPreference.reach(of: type)), .int8s(users),
                .text(once.scope), .text(once.key), .bytea(once.content), .int8(stream),
                .int4(timeToLive.map { Int32(clamping: $0) }),
            ])
        return EventID(try rows.onlyInt64())
    }

    /// A stream that ended and is started again, the same one, soon after its start: it goes on, and its followers hear of it
    /// once.
    /// - Throws: 1001 where it is live.
    fileprivate func resumeStream(
        _ start: StreamStart, _ streamer: Int64, within holdOff: Duration, _ once: Once
    ) throws -> StartedStream? {
        let rows = try self.query(
            """
            SELECT id, started_at, event_id, ended_at IS NULL, event_id IS NOT NULL AND title = $2 AND tags = $3
                AND started_at > clock_timestamp() - $4 * interval '1 millisecond'
            FROM streams WHERE streamer = $1 ORDER BY id DESC LIMIT 1
            """, [.int8(streamer), .text(start.title), .texts(start.tags), .int8(holdOff.milliseconds)])
        guard !rows.isEmpty else { return nil }
        guard try !rows.bool(0, 3) else { throw FanfareError.alreadyLive }
        guard try rows.bool(0, 4) else { return nil }
        let (id, event) = (try rows.int64(0, 0), try rows.int64(0, 2))
        guard try self.releaseEvent(EventID(event)) else { return nil }
        try self.query("UPDATE streams SET ended_at = NULL, ended_by = NULL WHERE id = $1", [.int8(id)])
        try self.query(
            """
            INSERT INTO idempotency_keys (scope, key, content, event_id, stream_id)
            VALUES ($1, $2, sha256($3), $4, $5)
            """, [.text(once.scope), .text(once.key), .bytea(once.content), .int8(event), .int8(id)])
        let stream = StreamRecord(
            id: String(id), streamer: start.streamer, title: start.title, tags: start.tags, isLive: true,
            startedAt: try rows.timestamp(0, 1))
        return StartedStream(stream: stream, event: EventID(event), isDuplicate: false)
    }

    /// The result of a start that was done before, as it was then.
    fileprivate func firstStart(
        _ stream: Int64, _ event: EventID, _ streamer: UserID, isDuplicate: Bool
    ) throws(PostgresError) -> StartedStream {
        let rows = try self.query("SELECT title, tags, started_at FROM streams WHERE id = $1", [.int8(stream)])
        guard !rows.isEmpty else { throw PostgresError(.unexpectedAnswer, "the stream of a key is gone") }
        let record = StreamRecord(
            id: String(stream), streamer: streamer, title: try rows.string(0, 0), tags: try rows.texts(0, 1),
            isLive: true, startedAt: try rows.timestamp(0, 2))
        return StartedStream(stream: record, event: event, isDuplicate: isDuplicate)
    }
}
