package import FanfareEngines
package import FanfareModel

extension PostgresStore {
    package func eventCounts(of streamer: UserID, type: String?) async throws(FanfareError) -> [EventCount] {
        try await self.read("event_counts") { session in try session.eventCounts(of: streamer, type: type) }
    }
}

extension PostgresSession {
    /// Exact as of one moment: each partition is in the sums from the very moment that it is closed, and counted until then.
    package func eventCounts(of streamer: UserID, type: String?) throws(PostgresError) -> [EventCount] {
        let rows = try self.query(
            """
            SELECT type, sum(count)::bigint FROM (
                SELECT type, count FROM event_counts
                WHERE streamer = (SELECT id FROM users WHERE name = $1) AND ($2::text IS NULL OR type = $2)
                UNION ALL
                SELECT type, count(*) FROM events
                WHERE streamer = (SELECT id FROM users WHERE name = $1) AND ($2::text IS NULL OR type = $2)
                    AND id >= (SELECT min(first_id) FROM partitions WHERE log = 'events' AND closed_at IS NULL)
                GROUP BY type
            ) counts
            GROUP BY type ORDER BY type
            """, [.text(streamer.rawValue), .text(type)])
        var counts: [EventCount] = []
        for row in rows.indices {
            counts.append(EventCount(type: try rows.string(row, 0), count: try rows.int64(row, 1)))
        }
        return counts
    }
}
