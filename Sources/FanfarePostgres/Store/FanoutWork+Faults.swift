import FanfareCore
import FanfareEngines
import FanfareModel
import Metrics

/// What becomes of a job whose chunk failed.
extension FanoutWork {
    /// A row of the chunk is at fault: half as many next time, and where only one is left, it becomes a dead letter.
    /// - Returns: the size of the next attempt; nil where there is none.
    func narrow(
        _ session: PostgresSession, _ job: FanoutJob, _ size: Int, _ cause: PostgresError
    ) throws -> Int? {
        let audience = job.audience(limit: size)
        let tried = try session.query(
            "SELECT count(*), max(user_id) FROM (\(audience.sql)) tried", audience.parameters)
        let count = try tried.int(0, 0)
        if count > 1 { return count / 2 }
        guard count == 1, job.rowFailures < self.configuration.jobRowFailures else {
            // Not the rows, or all of them: the job as a whole.
            try self.bury(session, job, cause)
            return nil
        }
        let user = try tried.int64(0, 1)
        try session.transaction {
            try self.checkFence(session, job.shard)
            try session.giveUpAhead(job)
            try session.query(
                """
                WITH job AS (
                    UPDATE fanout_jobs SET cursor = $2, row_failures = row_failures + 1, chunk_limit = 1
                    WHERE id = $1 AND cursor < $2 RETURNING event_id, id
                )
                INSERT INTO dead_letters (kind, event_id, user_id, shard, job_id, payload, cause, sql_state, attempts,
                    first_failed_at, last_failed_at)
                SELECT 'fanout', j.event_id, u.id, $3, NULL,
                    json_build_object('event', j.event_id::text, 'user', u.name)::text, $4, $5, 1, now(), now()
                FROM job j, users u WHERE u.id = $2
                """,
                [.int8(job.id), .int8(user), .shard(job.shard), .text(cause.message), .text(cause.sqlState)])
        }
        self.metrics.deadRows.increment()
        return 1
    }

    /// Not now: later, with a new number, after other jobs of the shard. After too many attempts a dead letter.
    func setAside(_ session: PostgresSession, _ job: FanoutJob, _ size: Int, _ cause: PostgresError) throws {
        guard job.attempts + 1 < self.configuration.jobAttempts else { return try self.bury(session, job, cause) }
        let (base, cap) = self.configuration.jobBackoff
        let delay = Backoff(base: base, cap: cap).delay(attempt: job.attempts, random: self.random())
        try session.transaction {
            try self.checkFence(session, job.shard)
            try session.query(
                """
                UPDATE fanout_jobs SET attempts = attempts + 1, chunk_limit = $3,
                    first_failed_at = COALESCE(first_failed_at, now()),
                    run_at = clock_timestamp() + $2 * interval '1 millisecond'
                WHERE id = $1
                """,
                [.int8(job.id), .int8(max(1, delay.milliseconds)), .int4(Int32(clamping: max(1, size / 2)))])
        }
        self.metrics.jobsSetAside.increment()
    }

    /// The job as a whole becomes a dead letter. It keeps its place: what was written stays, a replay goes on from there.
    private func bury(_ session: PostgresSession, _ job: FanoutJob, _ cause: PostgresError) throws {
        try session.transaction {
            try self.checkFence(session, job.shard)
            try session.query(
                """
                WITH job AS (
                    UPDATE fanout_jobs SET state = 1, attempts = attempts + 1 WHERE id = $1 AND state = 0 RETURNING *
                )
                INSERT INTO dead_letters (kind, event_id, shard, job_id, payload, cause, sql_state, attempts,
                    first_failed_at, last_failed_at)
                SELECT 'fanout', event_id, shard, id,
                    json_build_object('event', event_id::text, 'shard', shard, 'job', id::text,
                        'cursor', cursor::text)::text,
                    $2, $3, attempts, COALESCE(first_failed_at, now()), now()
                FROM job
                """, [.int8(job.id), .text(cause.message), .text(cause.sqlState)])
        }
        self.metrics.deadJobs.increment()
    }

    private func checkFence(_ session: PostgresSession, _ shard: Shard) throws {
        let rows = try session.query(
            "SELECT fence, generation FROM shards WHERE shard = $1 FOR NO KEY UPDATE", [.shard(shard)])
        let fence = Fence(generation: try rows.string(0, 1), number: try rows.uint64(0, 0))
        guard self.order.shards[shard] == fence else {
            throw EngineError(.fenced, "fence \(fence) of shard \(shard) is another owner's")
        }
    }
}
