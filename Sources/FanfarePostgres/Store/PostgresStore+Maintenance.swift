import FanfareModel
import Metrics
import Synchronization

extension PostgresStore {
    /// How often the relay looks after the store, and for how long keys that stand for single calls are kept: longer than
    /// any call is tried again.
    private static let interval = Duration.seconds(10)
    /// Where partitions are short, several times in the time of one.
    private var maintenanceInterval: Duration {
        PartitionedLog.allCases.reduce(PostgresStore.interval) { interval, log in
            min(interval, PartitionPlan.period(for: self.configuration.retention(of: log)) / 4)
        }
    }

    /// Forgets what is no longer needed and measures what waits. What fails here is tried again at the next turn.
    func maintain() async {
        let now = MonotonicClock.now()
        let interval = self.maintenanceInterval
        let isDue = self.maintained.withLock { last in
            if let last, now < last + interval { return false }
            last = now
            return true
        }
        guard isDue else { return }
        await self.boundDeadLetters()
        await self.applyOpenLevels()
        if self.configuration.tendsPartitions { self.beginTendingPartitions() }
        let found = try? await self.fanout.run("maintain", as: .fanout) { session in
            try session.query(
                """
                DELETE FROM idempotency_keys WHERE (scope, key) IN (
                    SELECT scope, key FROM idempotency_keys
                    WHERE scope = 'call' AND created_at < now() - interval '1 hour' LIMIT 10000
                )
                """)
            try self.tendScheduled(session)
            // What a crash between a settlement and its completion left.
            try session.completeEvents(nil)
            try session.foldTallies()
            try session.forgetNamed()
            try session.forgetAhead()
            let rows = try session.query(
                """
                SELECT (SELECT count(*) FROM outbox WHERE NOT is_dead),
                    (SELECT COALESCE(extract(epoch FROM now() - min(created_at))::bigint, 0) FROM outbox
                        WHERE NOT is_dead),
                    (SELECT count(*) FROM fanout_jobs WHERE state = 0),
                    (SELECT count(*) FROM dead_letters WHERE state = 0)
                """)
            return (
                [try rows.int64(0, 0), try rows.int64(0, 1), try rows.int64(0, 2), try rows.int64(0, 3)],
                try session.overdueEvents()
            )
        }
        guard let (counts, overdue) = found else { return }
        self.metrics.outboxPending.record(counts[0])
        self.metrics.outboxLag.record(counts[1])
        self.metrics.openJobs.record(counts[2])
        self.metrics.deadLetters.record(counts[3])
        _ = try? await self.endHeldEvents(overdue)
    }
}
