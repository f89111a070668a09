package import FanfareEngines
package import FanfareModel

/// Brings in follows by the million, on a connection of its own: COPY into a temporary table, then two statements per
/// batch. What is there already is left as it is, so that an import that broke off is simply run again from the start.
///
/// An event that is accepted while a batch is under way may count the follows of that batch or not; the other batches
/// are before it or after it.
package final class FollowImporter: Sendable {
    /// One line of the source.
    package struct Line: Sendable, Hashable {
        package var number: Int
        package var streamer: UserID
        package var follower: UserID

        package init(number: Int, streamer: UserID, follower: UserID) {
            self.number = number
            self.streamer = streamer
            self.follower = follower
        }
    }

    /// How far the import has come. All of it is committed.
    package struct Progress: Sendable, Hashable {
        package var lines = 0
        package var newUsers = 0
        package var newFollows = 0
        /// Lines of users who follow themselves: left out.
        package var selfFollows = 0
        /// The number of the last line that is in.
        package var lastLine = 0
    }

    private let connection: PostgresConnection

    /// - Parameter configuration: Where it `migrates`, the schema is brought up to date first.
    /// - Throws: `.overloaded` where the system gives no more threads.
    package init(_ configuration: PostgresConfiguration) throws(EngineError) {
        var configuration = configuration
        // A batch into a large table on a slow disk takes its time.
        configuration.statementTimeout = .seconds(120)
        configuration.applicationName += " import"
        do {
            self.connection = try PostgresConnection(configuration)
        } catch {
            throw EngineError(.overloaded, error.message)
        }
        self.migrates = configuration.migrates
    }
    private let migrates: Bool

    /// Reads batches until there are none, and writes each in a transaction.
    /// - Parameters:
    ///   - batches: the next lines, 10,000 or so; nil at the end.
    ///   - report: called after each batch.
    /// - Returns: the end of the progress.
    /// - Throws: what `batches` throws, and `EngineError`. What was reported before is in; run again to go on.
    package func run(
        _ batches: () async throws -> [Line]?, report: (Progress) -> Void = { _ in }
    ) async throws -> Progress {
        var progress = Progress()
        while let lines = try await batches() {
            guard let last = lines.last else { continue }
            let follows = lines.filter { $0.streamer != $0.follower }
            let (users, new) = try await self.write(follows)
            progress.lines += lines.count
            progress.newUsers += users
            progress.newFollows += new
            progress.selfFollows += lines.count - follows.count
            progress.lastLine = last.number
            report(progress)
        }
        await self.connection.disconnect()
        return progress
    }

    /// Tried again where the link broke or another writer was in the way: doing it twice is harmless.
    private func write(_ lines: [Line]) async throws -> (users: Int, follows: Int) {
        var attempt = 0
        while true {
            do {
                return try await self.connection.run(prepare: { try self.prepare($0) }) { session in
                    let written = try session.transaction { try self.write(session, lines) }
                    // A level that was chosen meanwhile did not see these follows: maintenance looks at them.
                    try session.query(
                        """
                        UPDATE preferences SET is_applied = false
                        WHERE notify > 0 AND user_id = ANY(ARRAY(SELECT id FROM users WHERE name = ANY($1)))
                        """, [.users(Set(lines.map(\.follower)))])
                    return written
                }
            } catch let error as PostgresError {
                attempt += 1
                switch error.reaction {
                case .rejectData, .rejectStatement: throw error.engineError
                case .reconnect, .retryTransaction, .retryLater, .backOff, .findPrimary:
                    guard attempt < 6 else { throw error.engineError }
                    try await Task.sleep(for: .milliseconds(50 << attempt))
                }
            }
        }
    }

    private func prepare(_ session: PostgresSession) throws {
        if self.migrates { _ = try Migrator.migrate(session) } else { try Migrator.check(session) }
        try session.script(
            """
            CREATE TEMPORARY TABLE stage (
                streamer text COLLATE "C", streamer_shard smallint, follower text COLLATE "C", follower_shard smallint
            ) ON COMMIT DELETE ROWS;
            -- The tables grow faster than their statistics: to read all of one for each batch would take longer with every
            -- batch, and looks cheap to a planner that thinks them small.
            SET enable_seqscan = off
            """)
    }

    private func write(_ session: PostgresSession, _ lines: [Line]) throws(PostgresError) -> (users: Int, follows: Int)
    {
        _ = try session.copy(
            "COPY stage FROM STDIN (FORMAT binary)",
            rows: lines.lazy.map { line in
                [
                    .text(line.streamer.rawValue), .shard(Shard(of: line.streamer)), .text(line.follower.rawValue),
                    .shard(Shard(of: line.follower)),
                ]
            })
        // In one order everywhere, so that two who make the same users do not deadlock.
        let users = try session.query(
            """
            INSERT INTO users (name, shard)
            SELECT name, shard FROM (
                SELECT streamer AS name, streamer_shard AS shard FROM stage
                UNION SELECT follower, follower_shard FROM stage
            ) named WHERE (SELECT u.id FROM users u WHERE u.name = named.name) IS NULL
            ORDER BY name ON CONFLICT DO NOTHING
            """
        ).affected
        let follows = try session.query(
            """
            WITH streamers AS MATERIALIZED (
                SELECT s.streamer AS name, u.id,
                    COALESCE((SELECT max(e.id) FROM events e WHERE e.streamer = u.id), 0) AS newest
                FROM (SELECT DISTINCT streamer FROM stage) s
                CROSS JOIN LATERAL (SELECT id FROM users WHERE name = s.streamer LIMIT 1) u
            ), lines AS MATERIALIZED (
                SELECT t.streamer, t.follower_shard AS shard, u.id,
                    COALESCE((SELECT p.notify FROM preferences p WHERE p.user_id = u.id), 0) AS level
                FROM (SELECT DISTINCT streamer, follower, follower_shard FROM stage) t
                CROSS JOIN LATERAL (SELECT id FROM users WHERE name = t.follower LIMIT 1) u
            )
            INSERT INTO follows (streamer, shard, follower, since, notify, chosen)
            SELECT s.id, l.shard, l.id, s.newest, l.level, CASE WHEN l.level > 0 THEN 0 END
            FROM lines l JOIN streamers s ON s.name = l.streamer
            WHERE (
                SELECT f.since FROM follows f WHERE f.follower = l.id AND f.streamer = s.id AND f.until IS NULL
            ) IS NULL
            ORDER BY s.id, l.shard, l.id ON CONFLICT DO NOTHING
            """
        ).affected
        return (users, follows)
    }
}
