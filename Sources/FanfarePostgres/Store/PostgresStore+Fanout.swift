import FanfareCore
package import FanfareEngines
package import FanfareModel
import Glibc
import Metrics

extension PostgresStore {
    package func workChunk(
        _ shard: Shard, fence: Fence, limit: Int
    ) async throws(EngineError) -> FanoutChunk? {
        let worker = ChunkWorker(
            shard: shard, fence: fence, limit: min(max(limit, 1), 100_000), configuration: self.configuration,
            random: self.random, metrics: self.metrics)
        do {
            let chunk = try await self.fanout.run("work_chunk") { session in try worker.work(session) }
            if let chunk { self.metrics.inboxRows.increment(by: chunk.users.count) }
            return chunk
        } catch {
            throw self.counted(error)
        }
    }

    package func pushed(_ chunk: FanoutChunk, deliveredOnline: Int, fence: Fence) async throws(EngineError) {
        do {
            try await self.fanout.transaction("pushed") { session in
                _ = try session.checkFence(chunk.shard, fence)
                // Said twice, it counts once.
                let rows = try session.query(
                    """
                    UPDATE fanout_jobs SET pushed_cursor = $2, delivered_online = delivered_online + $3
                    WHERE id = $1 AND state = 0 AND pushed_cursor < $2 AND written_cursor >= $2
                    RETURNING is_written AND written_cursor = $2
                    """, [.int8(chunk.job), .int8(chunk.cursor), .int8(Int64(max(0, deliveredOnline)))])
                guard !rows.isEmpty, try rows.bool(0, 0) else { return }
                try session.finishJob(chunk.job, chunk.shard)
            }
        } catch {
            throw self.counted(error)
        }
    }

    private func counted(_ error: any Error) -> EngineError {
        let error = PostgresStore.engineError(error)
        if error.code == .fenced { self.metrics.fenceRejections.increment() }
        return error
    }
}

/// Works one chunk, on the thread of a connection: the whole loop of attempts, halvings and dead letters.
private struct ChunkWorker: Sendable {
    let shard: Shard
    let fence: Fence
    let limit: Int
    let configuration: PostgresConfiguration
    let random: @Sendable () -> UInt64
    let metrics: StoreMetrics

    private enum Step {
        case chunk(FanoutChunk)
        /// A job was done that had nobody left.
        case finished
        case idle
    }

    /// What went wrong with a job whose turn it was.
    private struct JobFailure: Error {
        let job: FanoutJob
        let size: Int
        let cause: PostgresError
    }

    /// Transactions that one call makes at the most, so that a job full of faults does not hold the connection for long.
    private static let stepLimit = 200

    func work(_ session: PostgresSession) throws -> FanoutChunk? {
        var size: Int?
        var races = 0
        for _ in 0..<ChunkWorker.stepLimit {
            do {
                switch try session.transaction({ try self.step(session, size) }) {
                case .chunk(let chunk): return chunk
                case .finished: size = nil
                case .idle: return nil
                }
            } catch let failure as JobFailure {
                // A chunk waits for its pushes: the job keeps its number until they are recorded.
                if failure.job.pushed < failure.job.written { throw failure.cause }
                switch failure.cause.reaction {
                case .reconnect, .findPrimary: throw failure.cause
                case .retryTransaction where races < 5:
                    self.pause(races)
                    races += 1
                case .rejectData: size = try self.narrow(session, failure)
                case .retryTransaction, .retryLater, .backOff, .rejectStatement:
                    try self.setAside(session, failure)
                    size = nil
                    races = 0
                }
            } catch let error as PostgresError where error.reaction == .retryTransaction && races < 5 {
                self.pause(races)
                races += 1
            }
        }
        return nil
    }

    /// One transaction: fence, job, rows, cursor.
    private func step(_ session: PostgresSession, _ size: Int?) throws -> Step {
        let begun = try session.checkFence(self.shard, self.fence)
        guard let job = try session.dueJob(self.shard, begun: begun) else { return .idle }
        let limit = min(self.limit, size ?? job.chunkLimit ?? self.limit)
        do {
            if job.pushed < job.written, let sequence = job.sequence {
                let recipients = try self.writtenUsers(session, job, sequence)
                return .chunk(
                    job.chunk(self.shard, sequence: sequence, recipients, cursor: job.written, isLast: job.isWritten))
            }
            let sequence = try job.sequence ?? session.beginJob(job, self.shard)
            let (recipients, cursor) = try self.write(session, job, sequence, limit)
            guard let cursor else {
                try session.finishJob(job.id, self.shard)
                return .finished
            }
            let isLast = try recipients.users.count < limit || self.hasNobody(session, job, after: cursor)
            // After a narrow chunk that went through, the next may be twice as wide.
            let nextLimit = limit * 2 < self.limit ? Int32(limit * 2) : nil
            try session.query(
                """
                UPDATE fanout_jobs SET sequence = $2, written_cursor = $3, is_written = $4,
                    recipients = recipients + $5, chunk_limit = $6
                WHERE id = $1
                """,
                [
                    .int8(job.id), .int8(sequence), .int8(cursor), .bool(isLast), .int8(Int64(recipients.users.count)),
                    .int4(limit < self.limit ? nextLimit : nil),
                ])
            return .chunk(job.chunk(self.shard, sequence: sequence, recipients, cursor: cursor, isLast: isLast))
        } catch let cause as PostgresError {
            throw JobFailure(job: job, size: limit, cause: cause)
        }
    }

    /// Writes the inbox rows of the next users. The cursor is the last user's id; nil where there was nobody.
    private func write(
        _ session: PostgresSession, _ job: FanoutJob, _ sequence: UInt64, _ limit: Int
    ) throws(PostgresError) -> (recipients: FanoutRecipients, cursor: Int64?) {
        let rows = try session.query(
            """
            WITH audience AS MATERIALIZED (\(job.audience)), written AS (
                INSERT INTO inbox (user_id, sequence, event_id) SELECT user_id, $7, $5 FROM audience
                ON CONFLICT DO NOTHING
            )
            SELECT a.user_id, u.name FROM audience a JOIN users u ON u.id = a.user_id ORDER BY a.user_id
            """, job.audienceParameters(self.shard, after: job.written, limit: limit) + [.int8(sequence)])
        return (try FanoutRecipients(rows), rows.isEmpty ? nil : try rows.int64(rows.count - 1, 0))
    }

    /// The users of the chunk that was written and not pushed.
    private func writtenUsers(
        _ session: PostgresSession, _ job: FanoutJob, _ sequence: UInt64
    ) throws(PostgresError) -> FanoutRecipients {
        let rows = try session.query(
            """
            WITH audience AS MATERIALIZED (\(job.audience))
            SELECT a.user_id, u.name FROM audience a JOIN users u ON u.id = a.user_id
            JOIN inbox i ON i.user_id = a.user_id AND i.sequence = $7
            WHERE a.user_id <= $8 ORDER BY a.user_id
            """,
            job.audienceParameters(self.shard, after: job.pushed, limit: 1_000_000)
                + [.int8(sequence), .int8(job.written)])
        return try FanoutRecipients(rows)
    }

    private func hasNobody(
        _ session: PostgresSession, _ job: FanoutJob, after cursor: Int64
    ) throws(PostgresError) -> Bool {
        try session.query(job.audience, job.audienceParameters(self.shard, after: cursor, limit: 1)).isEmpty
    }

    // MARK: Faults

    /// A row of the chunk is at fault: half as many next time, and where only one is left, it becomes a dead letter.
    /// - Returns: the size of the next attempt.
    private func narrow(_ session: PostgresSession, _ failure: JobFailure) throws -> Int? {
        let job = failure.job
        let tried = try session.query(
            "SELECT count(*), max(user_id) FROM (\(job.audience)) tried",
            job.audienceParameters(self.shard, after: job.written, limit: failure.size))
        let count = try tried.int(0, 0)
        if count > 1 { return count / 2 }
        guard count == 1, job.rowFailures < self.configuration.jobRowFailures else {
            // Not the rows, or all of them: the job as a whole.
            try self.bury(session, failure)
            return nil
        }
        let user = try tried.int64(0, 1)
        try session.transaction {
            let begun = try session.checkFence(self.shard, self.fence)
            // The failed attempt was rolled back, its number with it: the job stays as it was, but for the cursor.
            guard begun == nil || begun == job.id else { return }
            try session.query(
                """
                WITH job AS (
                    UPDATE fanout_jobs SET written_cursor = $2, pushed_cursor = $2, row_failures = row_failures + 1,
                        chunk_limit = 1
                    WHERE id = $1 AND written_cursor < $2 RETURNING event_id, id
                )
                INSERT INTO dead_letters (kind, event_id, user_id, shard, job_id, payload, cause, sql_state, attempts,
                    first_failed_at, last_failed_at)
                SELECT 'fanout', j.event_id, u.id, $3, NULL,
                    json_build_object('event', j.event_id::text, 'user', u.name)::text, $4, $5, 1, now(), now()
                FROM job j, users u WHERE u.id = $2
                """,
                [
                    .int8(job.id), .int8(user), .shard(self.shard), .text(failure.cause.message),
                    .text(failure.cause.sqlState),
                ])
        }
        self.metrics.deadRows.increment()
        return nil
    }

    /// Not now: later, with a new number, after other jobs of the shard. After too many attempts a dead letter.
    private func setAside(_ session: PostgresSession, _ failure: JobFailure) throws {
        let job = failure.job
        guard job.attempts + 1 < self.configuration.jobAttempts else { return try self.bury(session, failure) }
        let (base, cap) = self.configuration.jobBackoff
        let delay = Backoff(base: base, cap: cap).delay(attempt: job.attempts, random: self.random())
        try session.transaction {
            _ = try session.checkFence(self.shard, self.fence)
            try session.query(
                "UPDATE shards SET job = NULL WHERE shard = $1 AND job = $2", [.shard(self.shard), .int8(job.id)])
            try session.query(
                """
                UPDATE fanout_jobs SET sequence = NULL, attempts = attempts + 1, chunk_limit = $3,
                    first_failed_at = COALESCE(first_failed_at, now()),
                    run_at = clock_timestamp() + $2 * interval '1 millisecond'
                WHERE id = $1 AND pushed_cursor = written_cursor
                """,
                [.int8(job.id), .int8(max(1, delay.milliseconds)), .int4(Int32(max(1, failure.size / 2)))])
        }
        self.metrics.jobsSetAside.increment()
    }

    /// The job as a whole becomes a dead letter. It keeps its place: what was written stays, a replay goes on from there.
    private func bury(_ session: PostgresSession, _ failure: JobFailure) throws {
        try session.transaction {
            _ = try session.checkFence(self.shard, self.fence)
            try session.query(
                "UPDATE shards SET job = NULL WHERE shard = $1 AND job = $2",
                [.shard(self.shard), .int8(failure.job.id)])
            try session.query(
                """
                WITH job AS (
                    UPDATE fanout_jobs SET state = 1, sequence = NULL, attempts = attempts + 1
                    WHERE id = $1 AND state = 0 RETURNING *
                )
                INSERT INTO dead_letters (kind, event_id, shard, job_id, payload, cause, sql_state, attempts,
                    first_failed_at, last_failed_at)
                SELECT 'fanout', event_id, shard, id,
                    json_build_object('event', event_id::text, 'shard', shard, 'job', id::text,
                        'cursor', written_cursor::text)::text,
                    $2, $3, attempts, COALESCE(first_failed_at, now()), now()
                FROM job
                """, [.int8(failure.job.id), .text(failure.cause.message), .text(failure.cause.sqlState)])
        }
        self.metrics.deadJobs.increment()
    }

    /// A few milliseconds on the connection's own thread: a lost race is short.
    private func pause(_ attempt: Int) {
        let delay = Backoff(base: .milliseconds(5), cap: .milliseconds(100))
            .delay(attempt: attempt, random: self.random())
        usleep(UInt32(clamping: delay.nanoseconds / 1000))
    }
}
