import FanfareEngines
import FanfareModel

/// A job of a shard, as a transaction that holds the shard's row sees it, with its event.
struct FanoutJob: Sendable {
    let id: Int64
    let event: EventID
    let streamer: Int64?
    let reach: Int16
    let written: Int64
    let pushed: Int64
    let isWritten: Bool
    /// Nil before its work begins, and after it was set aside.
    let sequence: UInt64?
    let chunkLimit: Int?
    let attempts: Int
    let rowFailures: Int
    let type: String
    let data: Bytes
    let createdAt: Timestamp

    /// The users after $3 whom the job is for, ascending: parameters $1 job or streamer, $2 shard, $3 cursor, $4 limit
    /// (of rows), $5 event, $6 reach.
    var audience: String {
        guard self.streamer != nil else {
            // The unused parameters are named all the same: a statement has the types it is given.
            return """
                SELECT named.id AS user_id FROM fanout_jobs j CROSS JOIN unnest(j.user_ids) AS named (id)
                WHERE j.id = $1 AND j.shard = $2 AND named.id > $3 AND j.event_id = $5 AND j.reach = $6
                ORDER BY named.id LIMIT $4
                """
        }
        return """
            SELECT f.follower AS user_id FROM follows f
            WHERE f.streamer = $1 AND f.shard = $2 AND f.follower > $3
                AND f.since < $5 AND (f.until IS NULL OR f.until >= $5) AND f.notify <= $6
            ORDER BY f.follower LIMIT $4
            """
    }

    func audienceParameters(_ shard: Shard, after cursor: Int64, limit: Int) -> [PostgresValue] {
        [
            .int8(self.streamer ?? self.id), .shard(shard), .int8(cursor), .int8(Int64(limit)),
            .int8(self.event.rawValue), .int2(self.reach),
        ]
    }

    func chunk(
        _ shard: Shard, sequence: UInt64, _ recipients: FanoutRecipients, cursor: Int64, isLast: Bool
    ) -> FanoutChunk {
        FanoutChunk(
            shard: shard, job: self.id, sequence: sequence, event: self.event, type: self.type, data: self.data,
            createdAt: self.createdAt, users: recipients.users, keys: recipients.keys, cursor: cursor, isLast: isLast)
    }
}

/// The users of a chunk.
struct FanoutRecipients {
    var users: [UserID] = []
    var keys: [UserKey] = []

    /// - Parameter rows: id and name.
    init(_ rows: PostgresRows) throws(PostgresError) {
        self.users.reserveCapacity(rows.count)
        self.keys.reserveCapacity(rows.count)
        for row in rows.indices {
            self.keys.append(UserKey(try rows.int64(row, 0)))
            self.users.append(UserID(unchecked: try rows.string(row, 1)))
        }
    }
}

extension PostgresSession {
    /// The job `begun`, else the first one of the shard that is due.
    func dueJob(_ shard: Shard, begun: Int64?) throws(PostgresError) -> FanoutJob? {
        let rows = try self.query(
            """
            SELECT j.id, j.event_id, j.streamer, j.reach, j.written_cursor, j.pushed_cursor, j.is_written, j.sequence,
                j.chunk_limit, j.attempts, j.row_failures, e.type, e.data, e.created_at
            FROM fanout_jobs j JOIN events e ON e.id = j.event_id
            WHERE j.id = COALESCE($2, (
                SELECT id FROM fanout_jobs WHERE shard = $1 AND state = 0 AND run_at <= now() ORDER BY id LIMIT 1
            ))
            """, [.shard(shard), .int8(begun)])
        guard !rows.isEmpty else { return nil }
        return FanoutJob(
            id: try rows.int64(0, 0), event: EventID(try rows.int64(0, 1)), streamer: try rows.int64OrNil(0, 2),
            reach: Int16(try rows.int64(0, 3)), written: try rows.int64(0, 4), pushed: try rows.int64(0, 5),
            isWritten: try rows.bool(0, 6), sequence: try rows.int64OrNil(0, 7).map(UInt64.init(clamping:)),
            chunkLimit: try rows.int64OrNil(0, 8).map(Int.init), attempts: try rows.int(0, 9),
            rowFailures: try rows.int(0, 10), type: try rows.string(0, 11), data: try rows.bytes(0, 12),
            createdAt: try rows.timestamp(0, 13))
    }

    /// Gives the job the shard's next number. From here on it is the shard's only job until it is done or set aside.
    func beginJob(_ job: FanoutJob, _ shard: Shard) throws(PostgresError) -> UInt64 {
        try self.query(
            """
            UPDATE shards SET next_sequence = next_sequence + 1, job = $2 WHERE shard = $1 RETURNING next_sequence - 1
            """, [.shard(shard), .int8(job.id)]
        ).uint64(0, 0)
    }

    /// Adds the job up in its event's row, and removes it.
    func finishJob(_ job: Int64, _ shard: Shard) throws(PostgresError) {
        try self.query("UPDATE shards SET job = NULL WHERE shard = $1 AND job = $2", [.shard(shard), .int8(job)])
        let rows = try self.query(
            """
            WITH gone AS (
                DELETE FROM fanout_jobs WHERE id = $1 RETURNING event_id, is_replay, recipients, delivered_online
            )
            UPDATE fanouts f SET
                recipients = f.recipients + g.recipients,
                delivered_online = f.delivered_online + g.delivered_online,
                shards_open = f.shards_open - CASE WHEN g.is_replay THEN 0 ELSE 1 END,
                completed_at = CASE
                    WHEN NOT g.is_replay AND f.shards_open = 1 THEN clock_timestamp() ELSE f.completed_at END
            FROM gone g WHERE f.event_id = g.event_id
            RETURNING f.streamer, f.completed_at IS NOT NULL
            """, [.int8(job)])
        guard !rows.isEmpty, try rows.bool(0, 1), let streamer = try rows.int64OrNil(0, 0) else { return }
        try self.forgetEndedFollows(of: streamer)
    }
}
