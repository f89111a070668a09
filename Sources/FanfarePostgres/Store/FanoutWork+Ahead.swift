import FanfareEngines
import FanfareModel
import Metrics

/// The rows of those who hear first.
extension FanoutWork {
    /// Those who go ahead in these jobs, by the jobs' places: as they were chosen before, or are now.
    /// - Parameter isAlone: the one job failed together with others, or narrower: nobody goes ahead any more in it.
    func ahead(
        _ session: PostgresSession, _ jobs: [FanoutJob], isAlone: Bool
    ) throws(PostgresError) -> [Int: FanoutAhead] {
        var lists: [Int: FanoutAhead] = [:]
        let begun = jobs.indices.filter { jobs[$0].ahead == .chosen }
        if !begun.isEmpty {
            let rows = try session.query(
                """
                SELECT p.place, a.written, a.user_ids
                FROM unnest($1::bigint[], $2::bigint[], $3::smallint[]) AS p (place, event_id, shard)
                JOIN fanout_ahead a ON a.event_id = p.event_id AND a.shard = p.shard
                """,
                [
                    .int8s(begun.map(Int64.init)), .int8s(begun.map { jobs[$0].event.rawValue }),
                    .shards(begun.map { jobs[$0].shard }),
                ])
            for row in rows.indices {
                let users = try rows.int64s(row, 2).map { UserKey($0) }
                lists[try rows.int(row, 0)] = FanoutAhead(users: users, written: try rows.int(row, 1))
            }
            if isAlone, var list = lists[0], !list.isWritten {
                list.giveUp()
                try session.giveUpAhead(jobs[0])
                lists[0] = list
            }
        }
        let open = jobs.indices.filter { jobs[$0].ahead == .open }
        if !isAlone, !open.isEmpty { lists.merge(try self.choose(session, jobs, open)) { $1 } }
        return lists
    }

    /// Chooses who goes ahead in jobs that begin.
    private func choose(
        _ session: PostgresSession, _ jobs: [FanoutJob], _ places: [Int]
    ) throws(PostgresError) -> [Int: FanoutAhead] {
        let limits = self.configuration.ahead
        guard limits.users > 0 else { return [:] }
        let online = try self.online(session, jobs, places)
        let recent = try session.query(
            """
            SELECT p.place, r.user_id FROM \(FanoutWork.meant) CROSS JOIN LATERAL (
                SELECT a.user_id, a.day FROM (
                    SELECT user_id, day FROM activity
                    WHERE shard = p.shard AND day >= \(PostgresSession.today) - $7
                    ORDER BY day DESC, user_id LIMIT p.candidates
                ) a
                WHERE \(FanoutWork.isMeant("a.user_id")) LIMIT $8
            ) r
            ORDER BY p.place, r.day DESC, r.user_id
            """,
            FanoutWork.meant(jobs, places) { limits.recent(share: $0) }
                + [.int4(Int32(clamping: limits.days)), .int8(Int64(limits.users))]
        ).byPlace()
        var lists: [Int: FanoutAhead] = [:]
        for place in places {
            let list = FanoutAhead(online: online[place] ?? [], recent: recent[place] ?? [], limit: limits.users)
            guard !list.users.isEmpty else { continue }
            if list.users.count == limits.users { self.metrics.aheadFull.increment() }
            lists[place] = list
        }
        let chosen = lists.sorted { $0.key < $1.key }
        guard !chosen.isEmpty else { return [:] }
        try session.query(
            """
            INSERT INTO fanout_ahead (event_id, shard, user_ids)
            SELECT p.event_id, p.shard, p.user_ids::bigint[]
            FROM unnest($1::bigint[], $2::smallint[], $3::text[]) AS p (event_id, shard, user_ids)
            """,
            [
                .int8s(chosen.map { jobs[$0.key].event.rawValue }), .shards(chosen.map { jobs[$0.key].shard }),
                .texts(chosen.map { "{" + $0.value.users.map { String($0.rawValue) }.joined(separator: ",") + "}" }),
            ])
        return lists
    }

    /// Who is online of those who are meant.
    private func online(
        _ session: PostgresSession, _ jobs: [FanoutJob], _ places: [Int]
    ) throws(PostgresError) -> [Int: [UserKey]] {
        var candidates: [Shard: Int] = [:]
        for place in places {
            let count = self.configuration.ahead.online(share: jobs[place].share)
            candidates[jobs[place].shard] = max(candidates[jobs[place].shard] ?? 0, count)
        }
        var shards: [Shard] = []
        var users: [Int64] = []
        for (shard, count) in candidates.sorted(by: { $0.key < $1.key }) {
            for user in self.whoIsOnline(shard, count).prefix(count) {
                shards.append(shard)
                users.append(user.rawValue)
            }
        }
        guard !users.isEmpty else { return [:] }
        return try session.query(
            """
            SELECT p.place, o.user_id FROM \(FanoutWork.meant)
            JOIN unnest($7::smallint[], $8::bigint[]) AS o (shard, user_id) ON o.shard = p.shard
            WHERE \(FanoutWork.isMeant("o.user_id"))
            """, FanoutWork.meant(jobs, places) { _ in 0 } + [.shards(shards), .int8s(users)]
        ).byPlace()
    }

    /// Jobs, as a table of parameters $1 to $6.
    private static let meant = """
        unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::smallint[], $6::bigint[])
            AS p (place, event_id, streamer, reach, shard, candidates)
        """

    private static func meant(
        _ jobs: [FanoutJob], _ places: [Int], candidates: (Int) -> Int
    ) -> [PostgresValue] {
        let jobs = places.map { ($0, jobs[$0]) }
        return [
            .int8s(jobs.map { Int64($0.0) }), .int8s(jobs.map(\.1.event.rawValue)),
            .int8s(jobs.map { $0.1.streamer ?? 0 }), .int2s(jobs.map(\.1.reach)), .shards(jobs.map(\.1.shard)),
            .int8s(jobs.map { Int64(candidates($0.1.share)) }),
        ]
    }

    /// Whether the event of `p` is for a user: what `writeFollowers` asks.
    private static func isMeant(_ user: String) -> String {
        """
        EXISTS (
            SELECT FROM follows f WHERE f.streamer = p.streamer AND f.shard = p.shard AND f.follower = \(user)
                AND f.since < p.event_id AND (f.until IS NULL OR f.until >= p.event_id) AND f.notify <= p.reach
        )
        """
    }

    /// Writes rows of those who go ahead.
    func writeAhead(
        _ session: PostgresSession, _ portions: [(job: FanoutJob, users: ArraySlice<UserKey>, sequence: UInt64)]
    ) throws(PostgresError) {
        guard !portions.isEmpty else { return }
        var (users, sequences, events): ([Int64], [Int64], [Int64]) = ([], [], [])
        for portion in portions {
            for user in portion.users {
                users.append(user.rawValue)
                sequences.append(Int64(clamping: portion.sequence))
                events.append(portion.job.event.rawValue)
            }
        }
        try session.query(
            """
            INSERT INTO inbox (user_id, sequence, event_id)
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS p (user_id, sequence, event_id)
            ORDER BY user_id
            """, [.int8s(users), .int8s(sequences), .int8s(events)])
        try session.query(
            """
            UPDATE fanout_ahead a SET written = a.written + p.count
            FROM unnest($1::bigint[], $2::smallint[], $3::bigint[]) AS p (event_id, shard, count)
            WHERE a.event_id = p.event_id AND a.shard = p.shard
            """,
            [
                .int8s(portions.map(\.job.event.rawValue)), .shards(portions.map(\.job.shard)),
                .int8s(portions.map { Int64($0.users.count) }),
            ])
        self.metrics.aheadRows.increment(by: users.count)
    }
}

extension PostgresRows {
    /// From places and users, each place's in order.
    fileprivate func byPlace() throws(PostgresError) -> [Int: [UserKey]] {
        var users: [Int: [UserKey]] = [:]
        for row in self.indices {
            users[try self.int(row, 0), default: []].append(UserKey(try self.int64(row, 1)))
        }
        return users
    }
}

extension PostgresSession {
    /// Days since 1970.
    static let today = "floor(extract(epoch FROM clock_timestamp()) / 86400)::int"

    /// Those who are on the list and not written hear with the others.
    func giveUpAhead(_ job: FanoutJob) throws(PostgresError) {
        try self.query(
            """
            UPDATE fanout_ahead SET user_ids = user_ids[1:written]
            WHERE event_id = $1 AND shard = $2 AND written < cardinality(user_ids)
            """, [.int8(job.event.rawValue), .shard(job.shard)])
    }

    /// Forgets who went ahead in events that are complete.
    func forgetAhead() throws(PostgresError) {
        try self.query(
            """
            DELETE FROM fanout_ahead a USING fanouts f
            WHERE f.event_id = a.event_id AND f.completed_at < now() - interval '10 seconds'
                AND NOT EXISTS (SELECT FROM fanout_jobs j WHERE j.event_id = a.event_id AND NOT j.is_replay)
            """)
    }
}
