/// Brings a database's schema up to this program's. Several nodes may try at once: an advisory lock lets one through at a
/// time, and each step is a transaction.
package enum Migrator {
    /// `pg_advisory_xact_lock`'s key: the letters of "fanfare".
    static let lockKey: Int64 = 0x0066_616e_6661_7265

    /// Applies the steps that are missing.
    /// - Returns: the steps applied now.
    /// - Throws: `PostgresError`; of kind `.unexpectedAnswer` where the database is newer than this program.
    package static func migrate(
        _ session: PostgresSession, _ migrations: [Migration] = Schema.migrations
    ) throws -> [AppliedMigration] {
        let usual = session.answerTimeout
        session.answerTimeout = .seconds(3600)
        defer { session.answerTimeout = usual }
        var applied: [AppliedMigration] = []
        while let step = try self.applyNext(session, migrations) { applied.append(step) }
        return applied
    }

    /// - Returns: the newest step that was applied; 0 in an empty database.
    package static func version(_ session: PostgresSession) throws(PostgresError) -> Int {
        guard try session.query("SELECT to_regclass('schema_migrations') IS NOT NULL").bool(0, 0) else { return 0 }
        return Int(try session.query("SELECT COALESCE(max(number), 0) FROM schema_migrations").onlyInt64())
    }

    /// - Throws: of kind `.unexpectedAnswer` where the schema is not exactly this program's.
    package static func check(
        _ session: PostgresSession, _ migrations: [Migration] = Schema.migrations
    ) throws(PostgresError) {
        let version = try self.version(session)
        let known = migrations.last?.number ?? 0
        guard version <= known else { throw self.tooNew(version, known) }
        guard version == known else {
            throw PostgresError(
                .unexpectedAnswer,
                "the database's schema has version \(version), this program needs \(known): run `fanfare migrate`")
        }
    }

    private static func applyNext(_ session: PostgresSession, _ migrations: [Migration]) throws -> AppliedMigration? {
        // Most starts find nothing to do, and need no lock to see it.
        let known = migrations.last?.number ?? 0
        if try self.version(session) == known { return nil }
        return try session.transaction {
            try session.script("SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = 0")
            try session.query("SELECT pg_advisory_xact_lock($1)", [.int8(self.lockKey)])
            try session.script(
                """
                CREATE TABLE IF NOT EXISTS schema_migrations (
                    number integer PRIMARY KEY,
                    name text NOT NULL,
                    applied_at timestamptz NOT NULL DEFAULT now()
                )
                """)
            let version = try self.version(session)
            guard version <= known else { throw self.tooNew(version, known) }
            guard let step = migrations.first(where: { $0.number > version }) else { return nil }
            try session.script(step.sql)
            try session.query(
                "INSERT INTO schema_migrations (number, name) VALUES ($1, $2)",
                [.int4(Int32(step.number)), .text(step.name)])
            return AppliedMigration(number: step.number, name: step.name)
        }
    }

    private static func tooNew(_ version: Int, _ known: Int) -> PostgresError {
        PostgresError(
            .unexpectedAnswer,
            "the database's schema has version \(version), newer than this program's \(known): "
                + "start the release that migrated it, or a later one")
    }
}
