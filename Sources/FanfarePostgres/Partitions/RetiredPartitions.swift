/// What was retired goes as a whole, and with it what belonged to it elsewhere.
extension PostgresSession {
    /// Numbers of the partitions whose tables are still there.
    func retiredPartitions(of log: PartitionedLog) throws(PostgresError) -> [Int64] {
        let rows = try self.query(
            "SELECT number FROM partitions WHERE log = $1 AND retired_at IS NOT NULL ORDER BY number",
            [.text(log.rawValue)])
        var numbers: [Int64] = []
        for row in rows.indices { numbers.append(try rows.int64(row, 0)) }
        return numbers
    }

    /// Takes the partition out without holding readers or writers up, and drops it. Goes on where it was cut off.
    func dropPartition(_ log: PartitionedLog, _ number: Int64) throws(PostgresError) {
        let table = log.table(number)
        let attached = try self.query(
            """
            SELECT inhdetachpending FROM pg_inherits
            WHERE inhparent = '\(log.rawValue)'::regclass AND inhrelid = to_regclass($1)
            """, [.text(table)])
        // Those who still look into it are waited for, but not long: there is a next time.
        try self.script("SET lock_timeout = '5s'; SET statement_timeout = '60s'")
        defer { try? self.script("RESET lock_timeout; RESET statement_timeout") }
        if !attached.isEmpty {
            let isPending = try attached.bool(0, 0)
            try self.script(
                "ALTER TABLE \(log.rawValue) DETACH PARTITION \(table) \(isPending ? "FINALIZE" : "CONCURRENTLY")")
        }
        try self.script("DROP TABLE IF EXISTS \(table)")
        try self.query(
            "DELETE FROM partitions WHERE log = $1 AND number = $2", [.text(log.rawValue), .int8(number)])
    }

    /// How far the fan-outs of events that are gone had come: `limit` at the most.
    /// - Returns: how many were forgotten.
    func forgetFanouts(limit: Int64) throws(PostgresError) -> Int {
        let kept = try self.query(
            "SELECT COALESCE(min(first_id), 0) FROM partitions WHERE log = 'events' AND retired_at IS NULL"
        ).onlyInt64()
        let chosen = "(SELECT event_id FROM fanouts WHERE event_id < $1 ORDER BY event_id LIMIT $2)"
        let parameters: [PostgresValue] = [.int8(kept), .int8(limit)]
        // In this order: what is forgotten last is found again where it is cut off.
        try self.query("DELETE FROM fanout_named WHERE event_id IN \(chosen)", parameters)
        try self.query("DELETE FROM fanout_tallies WHERE event_id IN \(chosen)", parameters)
        return try self.query("DELETE FROM fanouts WHERE event_id IN \(chosen)", parameters).affected
    }

    /// Broadcasts that are older than the inbox: `limit` at the most, and then the follows that ended and that none of
    /// those streamers' broadcasts counts on any more.
    /// - Returns: how many broadcasts and follows were forgotten.
    func forgetBroadcasts(limit: Int64) throws(PostgresError) -> Int {
        let rows = try self.query(
            """
            WITH expired AS MATERIALIZED (
                SELECT b.shard, b.sequence FROM shards s CROSS JOIN LATERAL (
                    SELECT shard, sequence FROM broadcasts
                    WHERE shard = s.shard AND sequence <= (SELECT inbox_gone FROM instance) LIMIT $1
                ) b LIMIT $1
            ), gone AS (
                DELETE FROM broadcasts b USING expired e WHERE b.shard = e.shard AND b.sequence = e.sequence
                RETURNING b.streamer
            )
            SELECT streamer, count(*) FROM gone GROUP BY streamer
            """, [.int8(limit)])
        var streamers: [Int64] = []
        var count = 0
        for row in rows.indices {
            streamers.append(try rows.int64(row, 0))
            count += try rows.int(row, 1)
        }
        guard !streamers.isEmpty else { return 0 }
        count += try self.query(
            """
            DELETE FROM follows WHERE ctid = ANY(ARRAY(
                SELECT f.ctid FROM follows f
                WHERE f.streamer = ANY($1) AND f.until IS NOT NULL AND NOT EXISTS (
                    SELECT FROM fanouts o WHERE o.streamer = f.streamer AND o.completed_at IS NULL
                        AND o.event_id > f.since AND o.event_id <= f.until
                ) AND NOT EXISTS (
                    SELECT FROM broadcasts b WHERE b.shard = f.shard AND b.streamer = f.streamer
                        AND b.event_id > f.since AND b.event_id <= f.until
                ) LIMIT $2
            )) AND until IS NOT NULL
            """, [.int8s(streamers), .int8(limit)]
        ).affected
        return count
    }
}
