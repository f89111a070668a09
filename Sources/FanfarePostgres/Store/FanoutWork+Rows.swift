import FanfareEngines
import FanfareModel

/// The statements that write inbox rows. In each transaction a sequence stands for one event or one chunk, and events come in
/// one order in all shards: so a user's sequences grow, and the answer tells which rows belong to what.
extension FanoutWork {
    /// Writes small events whole.
    /// - Returns: how many rows.
    func writeEvents(
        _ session: PostgresSession, _ plan: FanoutTakeUp, _ rows: [Shard: FanoutShardRow], _ progress: inout Progress
    ) throws -> Int {
        guard !plan.portions.isEmpty else { return 0 }
        let base = FanoutWork.base(rows)
        let named = plan.portions.filter { plan.events[$0.event].streamer == nil }
        let followed = plan.portions.filter { plan.events[$0.event].streamer != nil }
        var written: [Int: [UserKey]] = [:]
        do {
            if !followed.isEmpty {
                let events = followed.map { plan.events[$0.event] }
                let count = followed.count
                written = try Self.byPlace(
                    try session.query(
                        FanoutWork.writeFollowers,
                        [
                            .int8s(events.map(\.event.rawValue)), .int8s(events.map { $0.streamer ?? 0 }),
                            .int2s(events.map(\.reach)), .shards(followed.map(\.shard)),
                            .int8s([Int64](repeating: 0, count: count)),
                            .int8s([Int64](repeating: .max, count: count)),
                            .int8s(followed.map { Int64(base) + Int64($0.event) }),
                        ]), base)
            }
            if !named.isEmpty {
                let rows = try session.query(
                    FanoutWork.writeNamed,
                    [
                        .int8s(named.map { plan.events[$0.event].event.rawValue }), .shards(named.map(\.shard)),
                        .int8s(named.map { Int64(base) + Int64($0.event) }),
                    ])
                written.merge(try Self.byPlace(rows, base)) { $0 + $1 }
            }
        } catch {
            throw Failure.events(error)
        }
        let pushes = written.sorted { $0.key < $1.key }.map { place, users in
            (plan.events[place].event, users, base + UInt64(place))
        }
        return try self.enter(session, pushes, &progress)
    }

    /// The shards' places in the log, and the sequences that they used with it: one at least, by which the step is settled.
    /// - Returns: how many sequences.
    func move(
        _ session: PostgresSession, _ plan: FanoutTakeUp, _ rows: [Shard: FanoutShardRow], _ progress: inout Progress
    ) throws(PostgresError) -> Int {
        guard !plan.positions.isEmpty else { return 0 }
        let used = max(1, plan.events.count)
        let next = FanoutWork.base(rows) + UInt64(used)
        let positions = plan.positions.sorted { $0.key < $1.key }
        try session.query(
            """
            UPDATE shards s SET next_sequence = $3, position = p.position
            FROM unnest($1::smallint[], $2::bigint[]) AS p (shard, position) WHERE s.shard = p.shard
            """, [.shards(positions.map(\.key)), .int8s(positions.map(\.value)), .int8(next)])
        self.touch(positions.map(\.key), next: next, &progress)
        // Events that turned out to have nobody are done all the same.
        progress.events.formUnion(plan.events.map(\.event))
        progress.events.formUnion(plan.skipped)
        progress.batch.hasMore = true
        return used
    }

    private func touch(_ shards: some Sequence<Shard>, next: UInt64, _ progress: inout Progress) {
        for shard in shards {
            guard let fence = self.order.shards[shard] else { continue }
            progress.touched[shard] = FanoutSettlement.Entry(fence: fence, sequence: next - 1)
        }
    }

    /// Does the next step of each of these jobs.
    /// - Parameters:
    ///   - after: sequences that this transaction has used before.
    ///   - isAlone: the one job is tried alone because it failed with others.
    ///   - isNarrow: the one chunk was made narrower because a wider one failed.
    func writeJobs(
        _ session: PostgresSession, _ turns: [(job: FanoutJob, size: Int)], _ rows: [Shard: FanoutShardRow],
        after used: Int, isAlone: Bool, isNarrow: Bool, _ progress: inout Progress
    ) throws -> [FanoutJobStep] {
        let base = FanoutWork.base(rows) + UInt64(used)
        var steps: [FanoutJobStep] = []
        var pushes: [(event: EventID, users: [UserKey], sequence: UInt64)] = []
        do {
            var ahead = try self.ahead(session, turns.map(\.job), isAlone: isAlone)
            let written = try self.writeChunks(session, turns, ahead, base)
            try self.writeAhead(
                session,
                ahead.sorted { $0.key < $1.key }.filter { !$0.value.isWritten }.map { index, list in
                    (turns[index].job, list.next(turns[index].size), base + UInt64(index))
                })
            for (index, (job, size)) in turns.enumerated() {
                let sequence = base + UInt64(index)
                switch job.kind {
                case .rows where ahead[index]?.isWritten == false:
                    let users = ahead[index]?.next(size) ?? []
                    ahead[index]?.advance(by: users.count)
                    steps.append(
                        FanoutJobStep(
                            job: job, cursor: job.cursor, rows: users.count, isDone: false, nextLimit: job.chunkLimit))
                    pushes.append((job.event, Array(users), sequence))
                case .rows:
                    let users = written[index] ?? []
                    // After a narrow chunk that went through, the next may be twice as wide.
                    let wider = isNarrow ? size * 2 : job.chunkLimit.map { $0 * 2 }
                    steps.append(
                        FanoutJobStep(
                            job: job, cursor: users.max()?.rawValue ?? job.cursor, rows: users.count,
                            isDone: users.count < size, nextLimit: wider.flatMap { $0 < self.order.limit ? $0 : nil }))
                    if !users.isEmpty { pushes.append((job.event, users, sequence)) }
                case .broadcast:
                    progress.batch.broadcasts.append(
                        FanoutBroadcast(event: job.event, shard: job.shard, sequence: sequence))
                    steps.append(FanoutJobStep(job: job, cursor: 1, rows: 0, isDone: false, nextLimit: nil))
                case .count: steps.append(try session.countAudience(of: job))
                case .withdrawal: steps.append(try session.withdraw(job, size: size))
                }
            }
            try session.writeBroadcasts(
                turns.indices.filter { turns[$0].job.kind == .broadcast }.map { (turns[$0].job, base + UInt64($0)) })
        } catch {
            throw Failure.jobs(turns.map(\.job), size: turns.map(\.size).max() ?? 1, error)
        }
        try session.advanceJobs(steps)
        progress.events.formUnion(steps.filter(\.isDone).map(\.job.event))
        let next = base + UInt64(turns.count)
        let shards = Set(turns.map(\.job.shard))
        try session.query(
            "UPDATE shards SET next_sequence = $2 WHERE shard = ANY($1)", [.shards(shards), .int8(next)])
        self.touch(shards, next: next, &progress)
        progress.batch.hasMore = true
        _ = try self.enter(session, pushes, &progress)
        return steps
    }

    /// Writes the rows of those jobs that have rows; the answer tells by the sequence which ones are whose.
    private func writeChunks(
        _ session: PostgresSession, _ turns: [(job: FanoutJob, size: Int)], _ ahead: [Int: FanoutAhead], _ base: UInt64
    ) throws(PostgresError) -> [Int: [UserKey]] {
        var written: [Int: [UserKey]] = [:]
        for isNamed in [true, false] {
            let indices = turns.indices.filter {
                turns[$0].job.kind == .rows && (turns[$0].job.streamer == nil) == isNamed
                    && ahead[$0]?.isWritten != false
            }
            guard !indices.isEmpty else { continue }
            let jobs = indices.map { turns[$0].job }
            let parameters: [PostgresValue] = [
                .int8s(jobs.map(\.event.rawValue)), .int8s(jobs.map { isNamed ? $0.id : $0.streamer ?? 0 }),
                .int2s(jobs.map(\.reach)), .shards(jobs.map(\.shard)), .int8s(jobs.map(\.cursor)),
                .int8s(indices.map { Int64(turns[$0].size) }), .int8s(indices.map { Int64(base) + Int64($0) }),
            ]
            var (events, others): ([Int64], [Int64]) = ([], [])
            for index in indices {
                guard let list = ahead[index] else { continue }
                let users = list.others(after: turns[index].job.cursor)
                events += [Int64](repeating: turns[index].job.event.rawValue, count: users.count)
                others += users
            }
            let answer =
                if isNamed {
                    try session.query(FanoutWork.writeJobUsers, parameters)
                } else if others.isEmpty {
                    try session.query(FanoutWork.writeFollowers, parameters)
                } else {
                    try session.query(FanoutWork.writeOtherFollowers, parameters + [.int8s(events), .int8s(others)])
                }
            written.merge(try Self.byPlace(answer, base)) { $0 + $1 }
        }
        return written
    }

    /// Above all that the shards' users have.
    private static func base(_ rows: [Shard: FanoutShardRow]) -> UInt64 { rows.values.map(\.nextSequence).max() ?? 1 }

    /// What was written, by its place above `base`.
    private static func byPlace(_ rows: PostgresRows, _ base: UInt64) throws(PostgresError) -> [Int: [UserKey]] {
        var written: [Int: [UserKey]] = [:]
        for row in rows.indices {
            let users = try rows.int64s(row, 1).map { UserKey($0) }
            written[Int(try rows.uint64(row, 0) - base)] = users
        }
        return written
    }

    /// Counts what was written, and makes pushes of it.
    private func enter(
        _ session: PostgresSession, _ written: [(event: EventID, users: [UserKey], sequence: UInt64)],
        _ progress: inout Progress
    ) throws(PostgresError) -> Int {
        guard !written.isEmpty else { return 0 }
        var pushes: [FanoutPush] = []
        for (event, users, sequence) in written {
            let recipients = users.map { FanoutPush.Recipient($0, sequence: sequence) }
            if let last = pushes.indices.last, pushes[last].event == event {
                pushes[last].recipients += recipients
            } else {
                pushes.append(
                    FanoutPush(
                        event: event, type: "", data: [], createdAt: Timestamp(milliseconds: 0), recipients: recipients)
                )
            }
        }
        try session.query(
            "INSERT INTO fanout_tallies (event_id, recipients) SELECT * FROM unnest($1::bigint[], $2::bigint[])",
            [.int8s(pushes.map(\.event.rawValue)), .int8s(pushes.map { Int64($0.recipients.count) })])
        progress.batch.pushes += try session.withEvents(pushes)
        let count = pushes.reduce(0) { $0 + $1.recipients.count }
        progress.batch.rows += count
        return count
    }

    /// $1 events, $2 streamers, $3 reaches, $4 shards, $5 cursors, $6 sizes, $7 sequences.
    private static let writeFollowers = FanoutWork.writeFollowers(without: "")

    /// Without the users $9 of the events $8: looked up in a hash table that is made once.
    private static let writeOtherFollowers = FanoutWork.writeFollowers(
        without: """
            AND (p.event_id, f.follower) NOT IN (SELECT * FROM unnest($8::bigint[], $9::bigint[]) AS ahead (event, follower))
            """)

    private static func writeFollowers(without: String) -> String {
        """
        WITH written AS (
            INSERT INTO inbox (user_id, sequence, event_id)
            SELECT f.follower, p.sequence, p.event_id
            FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::smallint[], $5::bigint[], $6::bigint[],
                $7::bigint[]) AS p (event_id, streamer, reach, shard, cursor, size, sequence)
            CROSS JOIN LATERAL (
                SELECT f.follower FROM follows f
                WHERE f.streamer = p.streamer AND f.shard = p.shard AND f.follower > p.cursor
                    AND f.since < p.event_id AND (f.until IS NULL OR f.until >= p.event_id) AND f.notify <= p.reach
                    \(without)
                ORDER BY f.follower LIMIT p.size
            ) f
            ORDER BY f.follower
            RETURNING user_id, sequence
        )
        SELECT sequence, array_agg(user_id) FROM written GROUP BY sequence
        """
    }

    /// $1 events, $2 shards, $3 sequences.
    private static let writeNamed = """
        WITH written AS (
            INSERT INTO inbox (user_id, sequence, event_id)
            SELECT named.id, p.sequence, p.event_id
            FROM unnest($1::bigint[], $2::smallint[], $3::bigint[]) AS p (event_id, shard, sequence)
            JOIN fanout_named n ON n.event_id = p.event_id AND n.shard = p.shard
            CROSS JOIN LATERAL unnest(n.user_ids) AS named (id)
            RETURNING user_id, sequence
        )
        SELECT sequence, array_agg(user_id) FROM written GROUP BY sequence
        """

    /// $1 events, $2 jobs, $3 and $4 unused, $5 cursors, $6 sizes, $7 sequences.
    private static let writeJobUsers = """
        WITH written AS (
            INSERT INTO inbox (user_id, sequence, event_id)
            SELECT named.id, p.sequence, p.event_id
            FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::smallint[], $5::bigint[], $6::bigint[],
                $7::bigint[]) AS p (event_id, job, reach, shard, cursor, size, sequence)
            CROSS JOIN LATERAL (
                SELECT u.id FROM fanout_jobs j CROSS JOIN unnest(j.user_ids) AS u (id)
                WHERE j.id = p.job AND u.id > p.cursor ORDER BY u.id LIMIT p.size
            ) named
            ORDER BY named.id
            RETURNING user_id, sequence
        )
        SELECT sequence, array_agg(user_id) FROM written GROUP BY sequence
        """
}

extension PostgresSession {
    /// Fills in what the events say.
    func withEvents(_ pushes: [FanoutPush]) throws(PostgresError) -> [FanoutPush] {
        guard !pushes.isEmpty else { return [] }
        let rows = try self.query(
            """
            SELECT e.id, e.type, e.data, e.created_at, e.expires_at, (SELECT name FROM users s WHERE s.id = e.streamer),
                EXISTS (SELECT FROM streams s WHERE s.id = e.stream_id AND s.ended_at IS NOT NULL)
            FROM events e WHERE e.id = ANY($1)
            """,
            [.int8s(Set(pushes.map(\.event.rawValue)).sorted())])
        var places: [EventID: Int] = [:]
        for row in rows.indices { places[EventID(try rows.int64(row, 0))] = row }
        var filled: [FanoutPush] = []
        for var push in pushes {
            guard let row = places[push.event] else { continue }
            push.type = try rows.string(row, 1)
            push.data = try rows.bytes(row, 2)
            push.createdAt = try rows.timestamp(row, 3)
            push.expiresAt = try rows.timestampOrNil(row, 4)
            push.streamer = try rows.stringOrNil(row, 5).map(UserID.init(unchecked:))
            push.isStale = try rows.bool(row, 6)
            filled.append(push)
        }
        return filled
    }
}
