package import FanfareEngines
package import FanfareModel
import Metrics

extension PostgresStore {
    /// Writes for each user once a day, whatever the number of calls: others only read.
    package func markActive(_ users: [(key: UserKey, shard: Shard)]) async throws(EngineError) {
        guard !users.isEmpty else { return }
        let marked = try await self.work("mark_active") { session in
            // In one order everywhere, so that two who mark the same users do not deadlock.
            try session.query(
                """
                INSERT INTO activity AS a (user_id, shard, day)
                SELECT DISTINCT ON (p.user_id) p.user_id, p.shard, today.day
                FROM unnest($1::bigint[], $2::smallint[]) AS p (user_id, shard)
                CROSS JOIN (SELECT \(PostgresSession.today) AS day) today
                WHERE NOT EXISTS (SELECT FROM activity b WHERE b.user_id = p.user_id AND b.day >= today.day)
                ORDER BY p.user_id
                ON CONFLICT (user_id) DO UPDATE SET day = excluded.day WHERE a.day < excluded.day
                """, [.int8s(users.map(\.key.rawValue)), .shards(users.map(\.shard))]
            ).affected
        }
        self.metrics.activityMarks.increment(by: marked)
    }
}
