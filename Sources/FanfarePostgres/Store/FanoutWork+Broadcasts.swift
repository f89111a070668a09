import FanfareEngines
import FanfareModel

/// Steps of jobs that write no row for each recipient.
extension PostgresSession {
    /// Once for each shard, under its next sequence: readers find it by their follows.
    func writeBroadcasts(_ broadcasts: [(job: FanoutJob, sequence: UInt64)]) throws(PostgresError) {
        guard !broadcasts.isEmpty else { return }
        try self.query(
            """
            INSERT INTO broadcasts (shard, sequence, event_id, streamer, reach)
            SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[])
            """,
            [
                .shards(broadcasts.map(\.job.shard)), .int8s(broadcasts.map { Int64(clamping: $0.sequence) }),
                .int8s(broadcasts.map(\.job.event.rawValue)), .int8s(broadcasts.map { $0.job.streamer ?? 0 }),
                .int2s(broadcasts.map(\.job.reach)),
            ])
    }

    /// Whom a broadcast is for in a shard, after those online have it: nobody waits for the number.
    func countAudience(of job: FanoutJob) throws(PostgresError) -> FanoutJobStep {
        let count = try self.query(
            """
            SELECT count(*) FROM follows f
            WHERE f.streamer = $1 AND f.shard = $2 AND f.since < $3 AND (f.until IS NULL OR f.until >= $3)
                AND f.notify <= $4
            """, [.int8(job.streamer), .shard(job.shard), .int8(job.event.rawValue), .int2(job.reach)]
        ).int(0, 0)
        try self.query(
            "INSERT INTO fanout_tallies (event_id, recipients) VALUES ($1, $2)",
            [.int8(job.event.rawValue), .int8(Int64(count))])
        return FanoutJobStep(job: job, cursor: 2, rows: count, isDone: true, nextLimit: nil)
    }

    /// Takes back what the job's next users have not read of its event.
    func withdraw(_ job: FanoutJob, size: Int) throws(PostgresError) -> FanoutJobStep {
        // A broadcast at once; rows of those who have read it stay, for they go before it.
        try self.query(
            "DELETE FROM broadcasts WHERE shard = $1 AND streamer = $2 AND event_id = $3",
            [.shard(job.shard), .int8(job.streamer ?? 0), .int8(job.event.rawValue)])
        let audience = job.audience(limit: size)
        let place = audience.parameters.count
        let rows = try self.query(
            """
            WITH chunk AS MATERIALIZED (\(audience.sql)), gone AS (
                DELETE FROM inbox i USING chunk c LEFT JOIN read_marks m ON m.user_id = c.user_id
                WHERE i.user_id = c.user_id AND i.event_id = $\(place + 1) AND NOT i.read AND NOT i.archived
                    AND i.sequence > GREATEST(COALESCE(m.up_to, 0), COALESCE(m.archived_up_to, 0))
                    AND i.sequence >= (
                        SELECT COALESCE(
                            first_sequence,
                            (floor((extract(epoch FROM relayed_at) - 1735689600) / 86400)::bigint) << 32, 0)
                        FROM fanouts WHERE event_id = $\(place + 1)
                    )
                RETURNING i.user_id
            )
            SELECT (SELECT count(*) FROM chunk), COALESCE((SELECT max(user_id) FROM chunk), 0),
                (SELECT count(*) FROM gone)
            """, audience.parameters + [.int8(job.event.rawValue)])
        let seen = try rows.int(0, 0)
        let gone = try rows.int64(0, 2)
        if gone > 0 {
            try self.query(
                "INSERT INTO fanout_tallies (event_id, withdrawn) VALUES ($1, $2)",
                [.int8(job.event.rawValue), .int8(gone)])
        }
        return FanoutJobStep(
            job: job, cursor: max(job.cursor, try rows.int64(0, 1)), rows: Int(gone), isDone: seen < size,
            nextLimit: nil)
    }

    /// Pushes for those of `users` whom the broadcasts are for.
    func broadcastPushes(
        _ broadcasts: [FanoutBroadcast], to users: [UserKey]
    ) throws(PostgresError) -> [FanoutPush] {
        guard !broadcasts.isEmpty, !users.isEmpty else { return [] }
        let rows = try self.query(
            """
            SELECT b.event_id, b.sequence, u.id
            FROM unnest($1::bigint[]) AS online (id) JOIN users u ON u.id = online.id
            JOIN unnest($2::smallint[], $3::bigint[]) AS p (shard, sequence) ON p.shard = u.shard
            JOIN broadcasts b ON b.shard = p.shard AND b.sequence = p.sequence
            WHERE EXISTS (
                SELECT FROM follows f WHERE f.streamer = b.streamer AND f.shard = b.shard AND f.follower = u.id
                    AND f.since < b.event_id AND (f.until IS NULL OR f.until >= b.event_id) AND f.notify <= b.reach
            )
            ORDER BY b.sequence, b.event_id, u.id
            """,
            [
                .int8s(users.map(\.rawValue)), .shards(broadcasts.map(\.shard)),
                .int8s(broadcasts.map { Int64(clamping: $0.sequence) }),
            ])
        return try self.withEvents(try rows.pushes())
    }
}

extension PostgresRows {
    /// From events, sequences and users, in the order of the sequences: one push for each event in a row.
    func pushes() throws(PostgresError) -> [FanoutPush] {
        var pushes: [FanoutPush] = []
        for row in self.indices {
            let event = EventID(try self.int64(row, 0))
            let recipient = FanoutPush.Recipient(UserKey(try self.int64(row, 2)), sequence: try self.uint64(row, 1))
            if let last = pushes.indices.last, pushes[last].event == event {
                pushes[last].recipients.append(recipient)
            } else {
                pushes.append(
                    FanoutPush(
                        event: event, type: "", data: [], createdAt: Timestamp(milliseconds: 0),
                        recipients: [recipient]))
            }
        }
        return pushes
    }
}
