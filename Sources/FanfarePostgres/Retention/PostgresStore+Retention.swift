import FanfareCore
import FanfareEngines
import FanfareModel
import Logging
import Metrics

/// What a turn of the retention did.
package struct RetentionReport: Sendable, Hashable {
    /// Names of partitions.
    package var created: [String] = []
    package var dropped: [String] = []
    /// Broadcasts, ended follows and stray rows that went with them.
    package var deleted = 0
    /// Others were in the way, or there was more than one turn may do: it goes on at the next.
    package var isUnfinished = false

    package init() {}
}

extension PostgresStore {
    private static let retentionLock: Int64 = Migrator.lockKey + 2
    /// Partitions come and go under locks that everyone waits for: rather not now than that.
    private static let lockTimeout = "200ms"
    /// Rows deleted in one transaction, and transactions of one turn.
    private static let deleteLimit: Int64 = 10_000
    private static let deletesOfTurn = 100

    /// Makes the partitions of the weeks to come, and drops those that are too old. Safe to run on several nodes at once:
    /// one does it.
    @discardableResult
    package func retain() async throws(EngineError) -> RetentionReport {
        var report = RetentionReport()
        do {
            while let name = try await self.createPartition() { report.created.append(name) }
            while let name = try await self.detachPartition() {
                self.logger.notice("inbox partition dropped", metadata: ["partition": "\(name)"])
                report.dropped.append(name)
            }
            try await self.dropDetached()
        } catch where error.sqlState == "55P03" {
            self.logger.info("retention waits for a lock", metadata: ["error": "\(error)"])
            report.isUnfinished = true
        }
        for _ in 0..<PostgresStore.deletesOfTurn {
            let (deleted, streamers) = try await self.deleteExpired() ?? (0, [])
            report.deleted += deleted
            for streamer in streamers { report.deleted += try await self.forgetFollows(of: streamer) }
            if deleted == 0 { break }
        }
        self.metrics.partitionsDropped.increment(by: report.dropped.count)
        return report
    }

    /// A transaction of the retention, and of nobody else at the same time.
    /// - Returns: nil where another node is at it.
    private func retention<Value: Sendable>(
        _ operation: String, _ body: @Sendable (PostgresSession) throws -> Value?
    ) async throws(EngineError) -> Value? {
        try await self.work(operation) { session in
            try session.script("SET LOCAL lock_timeout = '\(PostgresStore.lockTimeout)'")
            let isAlone = try session.query(
                "SELECT pg_try_advisory_xact_lock($1)", [.int8(PostgresStore.retentionLock)]
            ).bool(0, 0)
            return isAlone ? try body(session) : nil
        }
    }

    /// - Returns: its name; nil where none is missing.
    private func createPartition() async throws(EngineError) -> String? {
        let limits = self.configuration.retention
        return try await self.retention("create_partition") { session in
            guard let week = try session.partitionPlan(limits).create.first else { return nil }
            let name = "inbox_w\(week.number)"
            // Attached rather than made in place: that lets readers and writers go on.
            try session.script(
                """
                CREATE TABLE \(name) (LIKE inbox INCLUDING DEFAULTS INCLUDING INDEXES)
                    WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.02);
                ALTER TABLE inbox ATTACH PARTITION \(name) FOR VALUES FROM (\(week.lower)) TO (\(week.upper))
                """)
            return name
        }
    }

    /// Takes the oldest partition that is too old out of the inbox. Its files go later, when nobody waits for a lock.
    private func detachPartition() async throws(EngineError) -> String? {
        let limits = self.configuration.retention
        return try await self.retention("detach_partition") { session in
            guard let partition = try session.partitionPlan(limits).drop.first, let upper = partition.upper else {
                return nil
            }
            try session.query(
                "UPDATE retention SET inbox_floor = GREATEST(inbox_floor, $1)", [.int8(upper)])
            try session.script("ALTER TABLE inbox DETACH PARTITION \(partition.name)")
            return partition.name
        }
    }

    private func dropDetached() async throws(EngineError) {
        while true {
            let dropped = try await self.retention("drop_partition") { session -> String? in
                let left = try session.query(
                    """
                    SELECT c.relname FROM pg_class c
                    WHERE c.relkind = 'r'
                        AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'inbox'::regclass)
                        AND c.relname ~ '^inbox_(w[0-9]+|before)$' AND NOT c.relispartition
                    ORDER BY c.relname LIMIT 1
                    """)
                guard !left.isEmpty else { return nil }
                let name = try left.string(0, 0)
                try session.script("DROP TABLE \(name)")
                return name
            }
            if dropped == nil { return }
        }
    }

    /// Deletes some of the broadcasts that are older than the inbox, and rows that came into the wrong partition.
    /// - Returns: how many, and the streamers whose broadcasts they were.
    private func deleteExpired() async throws(EngineError) -> (Int, [Int64])? {
        try await self.retention("delete_expired") { session in
            let floor: [PostgresValue] = [
                .int8(try session.query("SELECT inbox_floor FROM retention").onlyInt64()),
                .int8(PostgresStore.deleteLimit),
            ]
            let strays = try session.query(
                """
                DELETE FROM inbox_default WHERE ctid = ANY(ARRAY(
                    SELECT ctid FROM inbox_default WHERE sequence < $1 LIMIT $2
                ))
                """, floor
            ).affected
            let broadcasts = try session.query(
                """
                WITH expired AS MATERIALIZED (
                    SELECT b.shard, b.sequence FROM shards s CROSS JOIN LATERAL (
                        SELECT shard, sequence FROM broadcasts WHERE shard = s.shard AND sequence < $1 LIMIT $2
                    ) b LIMIT $2
                ), gone AS (
                    DELETE FROM broadcasts b USING expired e WHERE b.shard = e.shard AND b.sequence = e.sequence
                    RETURNING b.streamer
                )
                SELECT streamer, count(*) FROM gone GROUP BY streamer
                """, floor)
            var (count, streamers): (Int, [Int64]) = (strays, [])
            for row in broadcasts.indices {
                streamers.append(try broadcasts.int64(row, 0))
                count += try broadcasts.int(row, 1)
            }
            return (count, streamers)
        }
    }

    /// Deletes follows of this streamer that ended, where neither an event under way nor a broadcast counts on them.
    private func forgetFollows(of streamer: Int64) async throws(EngineError) -> Int {
        var count = 0
        while true {
            let deleted = try await self.work("forget_follows") { session in
                try session.query(
                    """
                    DELETE FROM follows WHERE ctid = ANY(ARRAY(
                        SELECT f.ctid FROM follows f WHERE f.streamer = $1 AND f.until IS NOT NULL AND NOT EXISTS (
                            SELECT FROM fanouts o WHERE o.streamer = $1 AND o.completed_at IS NULL
                                AND o.event_id > f.since AND o.event_id <= f.until
                        ) AND NOT EXISTS (
                            SELECT FROM broadcasts b WHERE b.shard = f.shard AND b.streamer = $1
                                AND b.event_id > f.since AND b.event_id <= f.until
                        ) LIMIT $2
                    )) AND until IS NOT NULL
                    """, [.int8(streamer), .int8(PostgresStore.deleteLimit)]
                ).affected
            }
            count += deleted
            if deleted < Int(PostgresStore.deleteLimit) { return count }
        }
    }
}

extension PostgresSession {
    fileprivate func partitionPlan(_ limits: PartitionPlan.Limits) throws(PostgresError) -> PartitionPlan {
        let rows = try self.query(
            """
            SELECT c.relname, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \\(''([0-9]+)''\\)')::bigint,
                c.reltuples::bigint
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'inbox'::regclass
            """)
        var partitions: [PartitionPlan.Partition] = []
        for row in rows.indices {
            partitions.append(
                .init(name: try rows.string(row, 0), upper: try rows.int64OrNil(row, 1), rows: try rows.int64(row, 2)))
        }
        let now = try self.query("SELECT \(Week.today), (SELECT max(sequence) FROM inbox_default)")
        return PartitionPlan(
            partitions, today: try now.int64(0, 0), defaultTop: try now.int64OrNil(0, 1), limits)
    }
}
