import FanfareEngines
import FanfareModel

/// What a shard still has to write of an event, from a cursor on.
struct FanoutJob: Sendable, Hashable {
    let id: Int64
    let event: EventID
    let shard: Shard
    /// Nil where users were named: they are in the job's row.
    let streamer: Int64?
    let reach: Int16
    /// The last user whose row was written.
    let cursor: Int64
    let chunkLimit: Int?
    let attempts: Int
    let rowFailures: Int
    let kind: Kind
    /// The budget of its type of events, where there is one.
    let budget: String?
    let ahead: Ahead
    /// Recipients in its shard, about.
    let share: Int

    /// Whether some of its users go ahead of the others.
    enum Ahead: Sendable, Hashable {
        case nobody
        /// Not chosen yet.
        case open
        case chosen
    }

    enum Kind: Sendable, Hashable {
        /// A row for each recipient.
        case rows
        /// One row for the whole shard.
        case broadcast
        /// After that: counts who it is for.
        case count
        /// Takes back what is unread.
        case withdrawal
    }

    fileprivate static let columns = """
        j.id, j.event_id, j.shard, j.streamer, j.reach, j.cursor, j.chunk_limit, j.attempts, j.row_failures,
        j.is_withdrawal, f.is_broadcast AND j.streamer IS NOT NULL AS is_for_all, f.budget,
        a.event_id IS NOT NULL AS has_ahead, f.total / GREATEST(1, cardinality(f.shards)) AS share
        """

    fileprivate static let tables = """
        fanout_jobs j JOIN fanouts f ON f.event_id = j.event_id
        LEFT JOIN fanout_ahead a ON a.event_id = j.event_id AND a.shard = j.shard
        """

    /// Whether a job's event lets it be worked. Of one that was given up only what is left to count, or is replayed, has
    /// jobs.
    fileprivate static let goesOn = "(j.is_withdrawal OR f.state IN (0, 3) AND f.held_until IS NULL)"

    fileprivate init(_ rows: PostgresRows, _ row: Int) throws(PostgresError) {
        self.id = try rows.int64(row, 0)
        self.event = EventID(try rows.int64(row, 1))
        self.shard = Shard(index: try rows.int(row, 2))
        self.streamer = try rows.int64OrNil(row, 3)
        self.reach = Int16(try rows.int64(row, 4))
        self.cursor = try rows.int64(row, 5)
        self.chunkLimit = try rows.int64OrNil(row, 6).map(Int.init)
        self.attempts = try rows.int(row, 7)
        self.rowFailures = try rows.int(row, 8)
        let isBroadcast = try rows.bool(row, 10)
        self.kind =
            if try rows.bool(row, 9) {
                .withdrawal
            } else if isBroadcast {
                self.cursor == 0 ? .broadcast : .count
            } else {
                .rows
            }
        self.budget = try rows.stringOrNil(row, 11)
        self.ahead =
            if self.kind != .rows || self.streamer == nil {
                .nobody
            } else if try rows.bool(row, 12) {
                .chosen
            } else {
                self.cursor == 0 ? .open : .nobody
            }
        self.share = Int(try rows.int64OrNil(row, 13) ?? 0)
    }

    /// The job's next users, ascending, with parameters of its own. Without those who went ahead.
    func audience(limit: Int) -> (sql: String, parameters: [PostgresValue]) {
        guard let streamer = self.streamer else {
            return (
                """
                SELECT named.id AS user_id FROM fanout_jobs j CROSS JOIN unnest(j.user_ids) AS named (id)
                WHERE j.id = $1 AND named.id > $2 ORDER BY named.id LIMIT $3
                """, [.int8(self.id), .int8(self.cursor), .int8(Int64(limit))]
            )
        }
        return (
            """
            SELECT f.follower AS user_id FROM follows f
            WHERE f.streamer = $1 AND f.shard = $4 AND f.follower > $2
                AND f.since < $5 AND (f.until IS NULL OR f.until >= $5) AND f.notify <= $6
                AND NOT EXISTS (
                    SELECT FROM fanout_ahead a
                    WHERE $7 AND a.event_id = $5 AND a.shard = $4 AND f.follower = ANY(a.user_ids[1:a.written])
                )
            ORDER BY f.follower LIMIT $3
            """,
            [
                .int8(streamer), .int8(self.cursor), .int8(Int64(limit)), .shard(self.shard),
                .int8(self.event.rawValue), .int2(self.reach), .bool(self.kind == .rows),
            ]
        )
    }

    /// Which jobs have their turn, and with how many rows at the most: `limit` together.
    ///
    /// Events take turns, and share the limit where there is room for more than one. All jobs of an event go on in step:
    /// they have about the same users' keys before them then, so that neighbours in the inbox's index are written together.
    /// Broadcasts cost no rows: all that are due have their turn.
    /// - Parameters:
    ///   - jobs: in the order of turns, those of an event one after another.
    ///   - budgets: rows that are left of the budgets of types.
    static func inTurns(
        _ jobs: [FanoutJob], limit: Int, budgets: [String: Int] = [:]
    ) -> [(job: FanoutJob, size: Int)] {
        var turns: [(job: FanoutJob, size: Int)] = []
        var events: [[FanoutJob]] = []
        var others = 0
        for job in jobs {
            switch job.kind {
            case .broadcast: turns.append((job, 1))
            case .count, .withdrawal:
                others += 1
                if others <= FanoutJob.slowJobs { turns.append((job, max(1, limit / FanoutJob.slowJobs))) }
            case .rows:
                if let budget = job.budget, budgets[budget] ?? 1 <= 0 { continue }
                if events.last?.first?.event == job.event {
                    events[events.count - 1].append(job)
                } else {
                    events.append([job])
                }
            }
        }
        var taken: [[FanoutJob]] = []
        var count = 0
        for event in events where limit > 0 {
            guard taken.isEmpty || (count + event.count) * FanoutJob.leastChunk <= limit else { break }
            taken.append(Array(event.prefix(limit - count)))
            count += event.count
        }
        let share = limit / max(1, taken.count)
        var left = budgets
        for jobs in taken {
            var rows = share
            if let budget = jobs.first?.budget, let rest = left[budget] {
                rows = min(share, rest)
                left[budget] = rest - rows
            }
            guard rows > 0 else { continue }
            let size = max(1, rows / jobs.count)
            turns += jobs.prefix(rows).map { ($0, min(size, $0.chunkLimit ?? size)) }
        }
        return turns
    }

    /// Jobs of one transaction that read or delete much.
    private static let slowJobs = 8
    /// Rows that a chunk should have before a transaction serves one event more.
    private static let leastChunk = 32
}

extension PostgresSession {
    /// Jobs that are due in these shards: by priority, events after `turn` first. Of each streamer only the oldest job of a
    /// shard, so that his events stay in order.
    func dueJobs(_ shards: [Shard], after turn: EventID, limit: Int) throws(PostgresError) -> [FanoutJob] {
        // In one pass, whatever the planner takes the tables for.
        try self.jobs(
            """
            SELECT \(FanoutJob.columns), f.priority, j.run_at, row_number() OVER (
                PARTITION BY j.shard, CASE WHEN j.is_withdrawal THEN -j.id ELSE COALESCE(j.streamer, -j.id) END
                ORDER BY j.id
            ) AS place
            FROM \(FanoutJob.tables)
            WHERE j.shard = ANY($1) AND j.state = 0 AND NOT j.is_written AND \(FanoutJob.goesOn)
            """,
            """
            WHERE place = 1 AND run_at <= clock_timestamp()
            ORDER BY priority DESC, event_id <= $2, event_id, shard, id LIMIT $3
            """, [.shards(shards), .int8(turn.rawValue), .int8(Int64(limit))])
    }

    func dueJob(_ id: Int64) throws(PostgresError) -> FanoutJob? {
        try self.jobs(
            """
            SELECT \(FanoutJob.columns) FROM \(FanoutJob.tables)
            WHERE j.id = $1 AND j.state = 0 AND NOT j.is_written AND j.run_at <= clock_timestamp()
                AND \(FanoutJob.goesOn)
            """, "", [.int8(id)]
        ).first
    }

    private func jobs(
        _ open: String, _ choice: String, _ parameters: [PostgresValue]
    ) throws(PostgresError) -> [FanoutJob] {
        let rows = try self.query("SELECT * FROM (\(open)) open \(choice)", parameters)
        var jobs: [FanoutJob] = []
        for row in rows.indices { jobs.append(try FanoutJob(rows, row)) }
        return jobs
    }

    /// Moves the jobs' cursors after what was written.
    func advanceJobs(_ steps: [FanoutJobStep]) throws(PostgresError) {
        guard !steps.isEmpty else { return }
        try self.query(
            """
            UPDATE fanout_jobs j SET cursor = p.cursor, recipients = j.recipients + p.rows, is_written = p.is_done = 1,
                chunk_limit = NULLIF(p.size, 0)
            FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[])
                AS p (id, cursor, rows, is_done, size)
            WHERE j.id = p.id
            """,
            [
                .int8s(steps.map(\.job.id)), .int8s(steps.map(\.cursor)), .int8s(steps.map { Int64($0.rows) }),
                .int2s(steps.map { $0.isDone ? 1 : 0 }), .int8s(steps.map { Int64($0.nextLimit ?? 0) }),
            ])
    }
}

/// What was written of a job.
struct FanoutJobStep: Sendable {
    let job: FanoutJob
    let cursor: Int64
    let rows: Int
    let isDone: Bool
    /// Where a chunk had been narrowed: how wide the next one may be.
    let nextLimit: Int?
}
