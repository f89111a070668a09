import FanfareEngines
import FanfareModel

/// After the pushes: what was settled is not offered again, and events whose last shard it was are complete.
extension PostgresSession {
    /// - Returns: events of which jobs were finished by it.
    func settle(_ settlement: FanoutSettlement) throws(PostgresError) -> [EventID] {
        guard !settlement.shards.isEmpty else { return [] }
        let entries = settlement.shards.sorted { $0.key < $1.key }
        // Entered twice, or for a shard that another owner has, it changes nothing.
        let rows = try self.query(
            """
            WITH settled AS (
                UPDATE shards s SET settled_sequence = p.sequence, settled_position = s.position
                FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::bigint[])
                    AS p (shard, fence, generation, sequence)
                WHERE s.shard = p.shard AND s.fence = p.fence AND s.generation = p.generation
                    AND s.settled_sequence < p.sequence
                RETURNING s.shard
            ), finished AS (
                DELETE FROM fanout_jobs j USING settled s WHERE j.shard = s.shard AND j.is_written
                RETURNING j.event_id
            )
            SELECT (SELECT count(*) FROM settled), COALESCE((SELECT array_agg(DISTINCT event_id) FROM finished), '{}')
            """,
            [
                .shards(entries.map(\.key)), .int8s(entries.map { Int64(clamping: $0.value.fence.number) }),
                .texts(entries.map(\.value.fence.generation)),
                .int8s(entries.map { Int64(clamping: $0.value.sequence) }),
            ])
        guard try rows.int(0, 0) > 0 else { return [] }
        let delivered = settlement.delivered.sorted { $0.key < $1.key }
        if !delivered.isEmpty {
            try self.query(
                "INSERT INTO fanout_tallies (event_id, delivered) SELECT * FROM unnest($1::bigint[], $2::bigint[])",
                [.int8s(delivered.map(\.key.rawValue)), .int8s(delivered.map { Int64($0.value) })])
        }
        return try rows.int64s(0, 1).map { EventID($0) }
    }

    /// Completes those of these events, or of all that are open, whose shards are all settled and have no job left.
    func completeEvents(_ events: [EventID]?) throws(PostgresError) {
        let which = events == nil ? "f.number > $1[1]" : "f.event_id = ANY($1)"
        let rows = try self.query(
            """
            WITH settled AS MATERIALIZED (
                SELECT array_agg(settled_position ORDER BY shard) AS positions FROM shards
            ), ready AS MATERIALIZED (
                SELECT f.event_id FROM fanouts f, settled
                WHERE \(which) AND f.number IS NOT NULL AND f.completed_at IS NULL
                    AND NOT EXISTS (
                        SELECT FROM unnest(f.shards) AS s (shard)
                        WHERE settled.positions[s.shard + 1] < f.number
                    )
                    AND NOT EXISTS (SELECT FROM fanout_jobs j WHERE j.event_id = f.event_id AND NOT j.is_replay)
                ORDER BY f.event_id FOR UPDATE OF f
            ), tallies AS (
                DELETE FROM fanout_tallies t USING ready r WHERE t.event_id = r.event_id
                RETURNING t.event_id, t.recipients, t.delivered, t.withdrawn
            ), sums AS (
                SELECT event_id, sum(recipients)::bigint AS recipients, sum(delivered)::bigint AS delivered,
                    sum(withdrawn)::bigint AS withdrawn
                FROM tallies GROUP BY event_id
            )
            UPDATE fanouts f SET completed_at = clock_timestamp(),
                recipients = f.recipients + COALESCE(s.recipients, 0),
                delivered_online = f.delivered_online + COALESCE(s.delivered, 0),
                withdrawn = f.withdrawn + COALESCE(s.withdrawn, 0)
            FROM ready r LEFT JOIN sums s ON s.event_id = r.event_id
            WHERE f.event_id = r.event_id
            RETURNING f.streamer
            """, [.int8s(events?.map(\.rawValue) ?? [-1])])
        var streamers: Set<Int64> = []
        for row in rows.indices { if let streamer = try rows.int64OrNil(row, 0) { streamers.insert(streamer) } }
        try self.forgetEndedFollows(of: streamers.sorted())
    }

    /// Adds what came after an event was complete: replays.
    func foldTallies() throws(PostgresError) {
        try self.query(
            """
            WITH gone AS (
                DELETE FROM fanout_tallies t USING fanouts f
                WHERE f.event_id = t.event_id AND f.completed_at < now() - interval '10 seconds'
                RETURNING t.event_id, t.recipients, t.delivered, t.withdrawn
            ), sums AS (
                SELECT event_id, sum(recipients)::bigint AS recipients, sum(delivered)::bigint AS delivered,
                    sum(withdrawn)::bigint AS withdrawn
                FROM gone GROUP BY event_id
            )
            UPDATE fanouts f SET recipients = f.recipients + s.recipients,
                delivered_online = f.delivered_online + s.delivered, withdrawn = f.withdrawn + s.withdrawn
            FROM sums s WHERE f.event_id = s.event_id
            """)
    }

    /// Forgets who was named, some time after: until then the event can be taken back from them.
    func forgetNamed() throws(PostgresError) {
        try self.query(
            """
            DELETE FROM fanout_named n USING fanouts f
            WHERE n.event_id IN (SELECT event_id FROM fanout_named ORDER BY event_id LIMIT 5000)
                AND f.event_id = n.event_id AND f.completed_at < now() - interval '1 day'
            """)
    }

    /// Deletes follows that ended, where no event counts on them any more. On those of a streamer with broadcasts readers
    /// count: they are forgotten with the broadcasts.
    func forgetEndedFollows(of streamers: [Int64]) throws(PostgresError) {
        guard !streamers.isEmpty else { return }
        try self.query(
            """
            DELETE FROM follows f WHERE f.streamer = ANY($1) AND f.until IS NOT NULL AND NOT EXISTS (
                SELECT FROM fanouts o WHERE o.streamer = f.streamer AND o.completed_at IS NULL
                    AND o.event_id > f.since AND o.event_id <= f.until
            ) AND NOT EXISTS (SELECT FROM broadcasts b WHERE b.streamer = f.streamer)
            """, [.int8s(streamers)])
    }

    /// What lies above the settled sequences of these shards, for those users.
    func unsettledPushes(_ shards: [Shard: Fence], to users: [UserKey]) throws(PostgresError) -> FanoutBatch {
        let rows = try self.query(
            """
            SELECT shard, fence, generation, settled_sequence, next_sequence - 1 FROM shards
            WHERE shard = ANY($1) ORDER BY shard FOR NO KEY UPDATE
            """, [.shards(shards.keys)])
        var batch = FanoutBatch()
        var settlement = FanoutSettlement()
        var settled: [(shard: Shard, sequence: Int64)] = []
        for row in rows.indices {
            let shard = Shard(index: try rows.int(row, 0))
            let fence = Fence(generation: try rows.string(row, 2), number: try rows.uint64(row, 1))
            guard shards[shard] == fence else {
                batch.fenced.append(shard)
                continue
            }
            let last = try rows.uint64(row, 4)
            guard try rows.int64(row, 3) < Int64(clamping: last) else { continue }
            settled.append((shard, try rows.int64(row, 3)))
            settlement.shards[shard] = FanoutSettlement.Entry(fence: fence, sequence: last)
        }
        guard !settled.isEmpty else { return batch }
        batch.settlement = settlement
        let inboxes = try self.query(
            """
            WITH wanted AS MATERIALIZED (
                SELECT u.id, s.shard, s.sequence
                FROM unnest($1::bigint[]) AS online (id) JOIN users u ON u.id = online.id
                JOIN unnest($2::smallint[], $3::bigint[]) AS s (shard, sequence) ON s.shard = u.shard
            )
            SELECT i.event_id, i.sequence, i.user_id
            FROM wanted w JOIN inbox i ON i.user_id = w.id AND i.sequence > w.sequence
            UNION
            SELECT b.event_id, b.sequence, w.id
            FROM wanted w JOIN broadcasts b ON b.shard = w.shard AND b.sequence > w.sequence
            WHERE EXISTS (
                SELECT FROM follows f WHERE f.streamer = b.streamer AND f.shard = b.shard AND f.follower = w.id
                    AND f.since < b.event_id AND (f.until IS NULL OR f.until >= b.event_id) AND f.notify <= b.reach
            )
            ORDER BY 2, 1, 3
            """,
            [.int8s(users.map(\.rawValue)), .shards(settled.map(\.shard)), .int8s(settled.map(\.sequence))])
        let pushes = try inboxes.pushes()
        batch.pushes = try self.withEvents(pushes)
        return batch
    }
}
