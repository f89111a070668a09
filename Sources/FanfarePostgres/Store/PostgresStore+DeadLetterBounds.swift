import FanfareEngines
import FanfareModel
import Logging
import Metrics

extension PostgresStore {
    /// Rows that one turn removes or sheds.
    private static let boundStep: Int64 = 5000

    /// Keeps the dead letters within their bounds, a step at a time. What fails is tried again at the next turn.
    package func boundDeadLetters() async {
        let limit = Int64(max(0, self.configuration.deadLetterLimit))
        let time = self.configuration.deadLetterTime.milliseconds
        let step = PostgresStore.boundStep
        let call = self.callKey()
        let outcome = try? await self.fanout.transaction("bound_dead_letters", as: .fanout) { session in
            let oldest = try session.query(
                """
                SELECT COALESCE(extract(epoch FROM now() - min(first_failed_at))::bigint, 0) FROM dead_letters
                WHERE state = 0
                """
            ).int64(0, 0)
            // One node at a time.
            guard try session.query("SELECT pg_try_advisory_xact_lock($1)", [.int8(Migrator.lockKey + 2)]).bool(0, 0)
            else { return (oldest: oldest, forgotten: 0, shed: 0) }
            var forgotten = try session.query(
                """
                DELETE FROM dead_letters WHERE id IN (
                    SELECT id FROM dead_letters WHERE state <> 0 AND settled_at < now() - $1 * interval '1 millisecond'
                    ORDER BY settled_at LIMIT $2
                )
                """, [.int8(time), .int8(step)]
            ).affected
            var excess = try session.query("SELECT count(*) FROM dead_letters").int64(0, 0) - limit
            guard excess > 0 else { return (oldest: oldest, forgotten: forgotten, shed: 0) }
            let removed = try session.query(
                """
                DELETE FROM dead_letters WHERE id IN (
                    SELECT id FROM dead_letters WHERE state <> 0 ORDER BY settled_at LIMIT $1
                )
                """, [.int8(min(excess, step))]
            ).affected
            forgotten += removed
            excess -= Int64(removed)
            guard excess > 0 else { return (oldest: oldest, forgotten: forgotten, shed: 0) }
            let rows = try session.query(
                "SELECT id FROM dead_letters WHERE state = 0 ORDER BY id LIMIT $1 FOR UPDATE",
                [.int8(min(excess, step))])
            var ids: [Int64] = []
            for row in rows.indices { ids.append(try rows.int64(row, 0)) }
            try session.settle(ids, as: .discard, by: call)
            return (oldest: oldest, forgotten: forgotten, shed: ids.count)
        }
        guard let outcome else { return }
        self.metrics.oldestDeadLetter.record(outcome.oldest)
        self.metrics.forgottenDeadLetters.increment(by: outcome.forgotten)
        guard outcome.shed > 0 else { return }
        self.metrics.shedDeadLetters.increment(by: outcome.shed)
        self.logger.error(
            "dead letters were discarded: more wait than are kept",
            metadata: ["discarded": "\(outcome.shed)", "limit": "\(limit)"])
    }
}
