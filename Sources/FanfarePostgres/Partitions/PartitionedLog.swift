/// A table that lies in partitions of its ids, and grows at its upper end.
enum PartitionedLog: String, CaseIterable, Sendable {
    /// By id.
    case events
    /// By sequence.
    case inbox

    func table(_ number: Int64) -> String { "\(self.rawValue)_p\(number)" }

    /// The highest id that was given.
    var top: String {
        switch self {
        case .events: "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM event_ids"
        case .inbox: "SELECT COALESCE(max(next_sequence), 1) - 1 FROM shards"
        }
    }

    /// Locks that every writer takes before it learns from where its ids are, and holds until it has committed.
    var writersLocks: (table: String, modes: String) {
        switch self {
        case .events: ("events", "'{RowExclusiveLock}'")
        case .inbox: ("shards", "'{RowShareLock,RowExclusiveLock}'")
        }
    }

    /// The transactions that hold such locks now.
    var writers: String {
        let (table, modes) = self.writersLocks
        return """
            SELECT virtualtransaction FROM pg_locks
            WHERE locktype = 'relation' AND relation = '\(table)'::regclass AND granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND mode = ANY(\(modes)::text[]) AND pid IS DISTINCT FROM pg_backend_pid()
            """
    }

    var storage: String {
        switch self {
        case .events: ""
        case .inbox: "WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.02)"
        }
    }
}

extension PostgresSession {
    /// - Returns: those that are not retired, ascending.
    func partitions(of log: PartitionedLog) throws(PostgresError) -> [LogPartition] {
        let rows = try self.query(
            """
            SELECT number, first_id, end_id, (extract(epoch FROM now - opened_at) * 1000)::bigint,
                (extract(epoch FROM now - ended_at) * 1000)::bigint, writers IS NOT NULL, closed_at IS NOT NULL,
                last_sequence IS NOT NULL
            FROM partitions, clock_timestamp() AS now WHERE log = $1 AND retired_at IS NULL ORDER BY number
            """, [.text(log.rawValue)])
        var partitions: [LogPartition] = []
        for row in rows.indices {
            var partition = LogPartition(
                number: try rows.int64(row, 0), first: try rows.int64(row, 1), end: try rows.int64(row, 2))
            partition.openFor = try rows.int64OrNil(row, 3)
            partition.endedFor = try rows.int64OrNil(row, 4)
            partition.hasWriters = try rows.bool(row, 5)
            partition.isClosed = try rows.bool(row, 6)
            partition.isSettled = try rows.bool(row, 7)
            partitions.append(partition)
        }
        return partitions
    }

    /// - Returns: whether it was done; false where others are in the way now.
    func perform(_ step: PartitionPlan.Step, on log: PartitionedLog) throws -> Bool {
        switch step {
        case .make(let number, let first, let end): try self.makePartition(log, number, first, end)
        case .open(let partition): try self.openPartition(log, partition)
        case .findWriters(let partition): try self.findWriters(log, partition)
        case .close(let partition): return try self.closePartition(log, partition)
        case .settle(let partition): return try self.settlePartition(partition)
        case .retire(let partition): return try self.retirePartition(log, partition)
        }
        return true
    }

    private func makePartition(_ log: PartitionedLog, _ number: Int64, _ first: Int64, _ end: Int64) throws {
        try self.transaction {
            // Attached, not made in place: that waits for no reader and no writer.
            let table = log.table(number)
            try self.script(
                """
                CREATE TABLE \(table) (LIKE \(log.rawValue) INCLUDING DEFAULTS INCLUDING INDEXES) \(log.storage);
                ALTER TABLE \(log.rawValue) ATTACH PARTITION \(table) FOR VALUES FROM (\(first)) TO (\(end))
                """)
            try self.query(
                "INSERT INTO partitions (log, number, first_id, end_id) VALUES ($1, $2, $3, $4)",
                [.text(log.rawValue), .int8(number), .int8(first), .int8(end)])
        }
    }

    private func openPartition(_ log: PartitionedLog, _ partition: LogPartition) throws {
        try self.transaction {
            switch log {
            case .events:
                // At once for all, and only upward: whoever takes an id after that has it from this partition.
                try self.query(
                    "SELECT setval('event_ids', $1, false) FROM event_ids WHERE last_value < $1",
                    [.int8(partition.first)])
            case .inbox:
                try self.query(
                    "UPDATE instance SET inbox_floor = GREATEST(inbox_floor, $1)", [.int8(partition.first)])
            }
            try self.query(
                """
                UPDATE partitions SET
                    opened_at = CASE WHEN number = $2 THEN clock_timestamp() ELSE opened_at END,
                    ended_at = CASE WHEN number < $2 THEN clock_timestamp() END
                WHERE log = $1 AND number <= $2 AND ended_at IS NULL AND (opened_at IS NOT NULL OR number = $2)
                """, [.text(log.rawValue), .int8(partition.number)])
        }
    }

    /// Whoever comes later has ids from a later partition.
    private func findWriters(_ log: PartitionedLog, _ partition: LogPartition) throws(PostgresError) {
        try self.query(
            """
            UPDATE partitions SET writers = ARRAY(\(log.writers))
            WHERE log = $1 AND number = $2 AND ended_at IS NOT NULL AND writers IS NULL
            """, [.text(log.rawValue), .int8(partition.number)])
    }

    /// - Returns: false where some of its writers have not ended.
    private func closePartition(_ log: PartitionedLog, _ partition: LogPartition) throws -> Bool {
        let key: [PostgresValue] = [.text(log.rawValue), .int8(partition.number)]
        // Locks are released after the commit is visible: a statement that begins after this one sees all there will be.
        let isWritten = try self.query(
            """
            SELECT EXISTS (\(log.writers) AND virtualtransaction = ANY(
                SELECT unnest(writers) FROM partitions WHERE log = $1 AND number = $2
            ))
            """, key
        ).bool(0, 0)
        guard !isWritten else { return false }
        let usual = self.answerTimeout
        self.answerTimeout = .seconds(610)
        defer { self.answerTimeout = usual }
        try self.transaction {
            if log == .events {
                try self.script("SET LOCAL statement_timeout = '600s'")
                try self.query(
                    """
                    INSERT INTO event_counts (streamer, type, partition, count)
                    SELECT COALESCE(streamer, 0), type, $1, count(*) FROM events WHERE id >= $2 AND id < $3
                    GROUP BY COALESCE(streamer, 0), type
                    """, [.int8(partition.number), .int8(partition.first), .int8(partition.end)])
            }
            // Nothing refers to what is in the inbox.
            try self.query(
                """
                UPDATE partitions SET closed_at = clock_timestamp(), writers = '{}',
                    last_sequence = CASE WHEN log = 'inbox' THEN end_id - 1 END
                WHERE log = $1 AND number = $2
                """, key)
        }
        return true
    }

    /// Where no work is left that could write an entry for one of the partition's events, all entries that there are and
    /// will be lie below the sequences that come next.
    private func settlePartition(_ partition: LogPartition) throws(PostgresError) -> Bool {
        try self.query(
            """
            UPDATE partitions SET last_sequence = (SELECT max(next_sequence) - 1 FROM shards)
            WHERE log = 'events' AND number = $1
                AND NOT EXISTS (SELECT FROM outbox WHERE event_id < $2)
                AND NOT EXISTS (SELECT FROM fanouts WHERE event_id < $2 AND completed_at IS NULL)
                AND NOT EXISTS (SELECT FROM fanout_jobs WHERE event_id < $2)
                AND NOT EXISTS (SELECT FROM dead_letters WHERE event_id < $2 AND state = 0)
            """, [.int8(partition.number), .int8(partition.end)]
        ).affected > 0
    }

    /// From now on nobody reads what is in it.
    /// - Returns: false where it is still needed.
    private func retirePartition(_ log: PartitionedLog, _ partition: LogPartition) throws -> Bool {
        try self.transaction {
            let retired = try self.query(
                """
                UPDATE partitions SET retired_at = clock_timestamp()
                WHERE log = $1 AND number = $2
                    AND (log = 'inbox' OR last_sequence <= (SELECT inbox_gone FROM instance))
                """, [.text(log.rawValue), .int8(partition.number)]
            ).affected
            guard retired > 0 else { return false }
            switch log {
            case .events:
                try self.query(
                    """
                    WITH gone AS (DELETE FROM event_counts WHERE partition = $1 RETURNING streamer, type, count)
                    INSERT INTO event_counts AS c (streamer, type, partition, count)
                    SELECT streamer, type, -1, count FROM gone
                    ON CONFLICT (streamer, type, partition) DO UPDATE SET count = c.count + EXCLUDED.count
                    """, [.int8(partition.number)])
            case .inbox:
                try self.query(
                    "UPDATE instance SET inbox_gone = GREATEST(inbox_gone, $1)", [.int8(partition.end - 1)])
            }
            return true
        }
    }
}
