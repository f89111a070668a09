import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

/// Databases of earlier releases, with work under way, are brought up to date and the work is done: every recipient has
/// every event once.
@Suite struct MigrationOfWorkTests {
    /// Before the fan-out went in batches: each shard had a job for each event, with a cursor.
    @Test func halfFannedOutByJobs() async throws {
        try await self.migrate(from: 3) { database, run in
            try await run.accept(database, "done", .followers)
            try await run.fanOut(database, "done", .complete)
            try await run.accept(database, "half", .followers)
            try await run.fanOut(database, "half", .half)
            try await run.accept(database, "named half", .named)
            try await run.fanOut(database, "named half", .half)
            try await run.accept(database, "relayed", .followers)
            try await run.fanOut(database, "relayed", .jobs)
            try await run.accept(database, "dead", .followers)
            try await run.fanOut(database, "dead", .half)
            try await database.execute(
                """
                WITH job AS (
                    UPDATE fanout_jobs SET state = 1
                    WHERE id = (
                        SELECT min(j.id) FROM fanout_jobs j JOIN events e ON e.id = j.event_id
                        WHERE e.type = 'custom.dead' AND NOT is_written
                    ) RETURNING *
                )
                INSERT INTO dead_letters (kind, event_id, shard, job_id, payload, cause, attempts, first_failed_at,
                    last_failed_at)
                SELECT 'fanout', event_id, shard, id, '{}', 'broken', 8, now(), now() FROM job
                """)
            try await run.accept(database, "accepted", .followers)
            try await run.accept(database, "named", .named)
        } finish: { store in
            let letters = try await store.deadLetters(DeadLetterFilter())
            #expect(letters.count == 1)
            _ = try await store.replayDeadLetters(letters.map(\.id))
            try await Owner().work(store, limit: 7)
        }
    }

    /// Before events and inboxes lay in partitions.
    @Test func halfFannedOutInBatches() async throws {
        try await self.migrate(from: 7) { database, run in
            for number in 0..<4 { try await run.accept(database, "old\(number)", .followers) }
            try await run.accept(database, "oldNamed", .named)
            try await run.begin(database, directly: ["old0", "old1"], toJobs: ["old2", "old3"])
        } finish: { store in
            // What comes later is in later partitions, and no id is given twice.
            try await store.tendPartitions()
        }
    }

    // MARK: Running

    private func migrate(
        from version: Int, fill: (PostgresConnection, inout EarlierRelease) async throws -> Void,
        finish: (PostgresStore) async throws -> Void
    ) async throws {
        let url = try Database.url()
        var configuration = try PostgresConfiguration(url: url)
        configuration.queueTimeout = .seconds(60)
        let database = try PostgresConnection(configuration)
        let earlier = Schema.migrations.filter { $0.number <= version }
        _ = try await database.run { try Migrator.migrate($0, earlier) }
        var run = EarlierRelease()
        try await run.prepare(database)
        try await fill(database, &run)
        let before = try await database.count("SELECT count(*) FROM inbox")
        #expect(before > 0)

        let store = try PostgresStore(configuration, logger: .silent)
        store.start()
        do {
            try await Owner().work(store, limit: 7)
            try await finish(store)
            let late = try await store.raid(run.streamer)
            try await Owner().work(store, limit: 7)
            for follower in run.followers {
                let entries = try await store.notifications(InboxQuery(user: follower, limit: 200)).entries
                let types = entries.map { $0.type.hasPrefix("custom.") ? String($0.type.dropFirst(7)) : "raid" }
                #expect(types.sorted() == (run.types(for: follower) + ["raid"]).sorted(), "\(follower)")
                #expect(entries.first?.event == late && entries.map(\.event).max() == late)
                #expect(Set(entries.map(\.sequence)).count == entries.count)
            }
            #expect(try await database.count("SELECT count(*) FROM fanouts WHERE completed_at IS NULL") == 0)
            #expect(try await database.count("SELECT count(*) FROM fanout_jobs") == 0)
            #expect(
                try await database.count(
                    "SELECT count(*) FROM (SELECT FROM inbox GROUP BY user_id, event_id HAVING count(*) > 1) twice")
                    == 0)
            let counts = try await store.eventCounts(of: run.streamer, type: nil)
            #expect(
                try await Int(counts.reduce(0) { $0 + $1.count })
                    == database.count("SELECT count(*) FROM events WHERE streamer IS NOT NULL"))
            try await self.checkRecipients(store, database)
        } catch {
            await store.stop()
            throw error
        }
        await store.stop()
        await database.disconnect()
    }

    private func checkRecipients(_ store: PostgresStore, _ database: PostgresConnection) async throws {
        let events = try await database.run { session in
            let rows = try session.query("SELECT event_id, count(*) FROM inbox GROUP BY event_id")
            var events: [EventID: Int] = [:]
            for row in rows.indices { events[EventID(try rows.int64(row, 0))] = try rows.int(row, 1) }
            return events
        }
        for (event, count) in events {
            let status = try await store.eventStatus(event)
            #expect(status.recipients == count && status.completedAt != nil && status.shardsDone == status.shardsTotal)
        }
    }
}

/// What an earlier release had in its tables.
private struct EarlierRelease {
    enum Audience { case followers, named }
    enum Progress { case complete, half, jobs }

    let streamer: UserID
    let followers: [UserID]
    /// Every second follower is named where users are named.
    private var audiences: [(type: String, audience: Audience)] = []

    init() {
        self.streamer = UserID(unchecked: "ada")
        self.followers = (0..<60).map { UserID(unchecked: "fan\($0)") }
    }

    func types(for follower: UserID) -> [String] {
        let isNamed = (self.followers.firstIndex(of: follower) ?? 0).isMultiple(of: 2)
        return self.audiences.filter { $0.audience == .followers || isNamed }.map(\.type)
    }

    func prepare(_ database: PostgresConnection) async throws {
        // Few shards, with many users each.
        let users = ([self.streamer] + self.followers).enumerated().map { "('\($1)', \($0 % 4))" }
        try await database.execute(
            """
            INSERT INTO users (name, shard) VALUES \(users.joined(separator: ","));
            INSERT INTO follows (streamer, follower, since, shard, notify)
                SELECT s.id, f.id, 0, f.shard, 0 FROM users s, users f WHERE s.name = 'ada' AND f.name <> 'ada';
            """)
    }

    /// Event and outbox row, as each release wrote them.
    mutating func accept(_ database: PostgresConnection, _ type: String, _ audience: Audience) async throws {
        self.audiences.append((type, audience))
        let streamer = audience == .followers ? "(SELECT id FROM users WHERE name = 'ada')" : "NULL::bigint"
        let named =
            audience == .named
            ? "(SELECT array_agg(id ORDER BY id) FROM users WHERE name ~ '^fan[0-9]*[02468]$')" : "'{}'::bigint[]"
        try await database.execute(
            """
            WITH event AS (
                INSERT INTO events (type, streamer, data) VALUES ('custom.\(type)', \(streamer), '{}') RETURNING id
            ), fanout AS (
                INSERT INTO fanouts (event_id, streamer) SELECT id, \(streamer) FROM event
            )
            INSERT INTO outbox (event_id, streamer, reach, user_ids) SELECT id, \(streamer), 0, \(named) FROM event
            """)
    }

    /// What the release with a job for each shard had done: of four shards one is done, one has written all, one half, one
    /// nothing yet.
    func fanOut(_ database: PostgresConnection, _ type: String, _ progress: Progress) async throws {
        let shards = progress == .jobs ? 0 : progress == .half ? 3 : 4
        try await database.execute(
            """
            CREATE TEMP TABLE meant AS
                SELECT o.event_id, o.streamer, u.id, u.shard,
                    row_number() OVER (PARTITION BY u.shard ORDER BY u.id) AS place
                FROM outbox o JOIN events e ON e.id = o.event_id JOIN users u
                    ON u.name <> 'ada' AND (o.streamer IS NOT NULL OR u.id = ANY(o.user_ids))
                WHERE e.type = 'custom.\(type)';
            INSERT INTO fanout_jobs (event_id, streamer, shard, user_ids)
                SELECT event_id, streamer, shard,
                    CASE WHEN streamer IS NULL THEN array_agg(id ORDER BY id) ELSE '{}' END
                FROM meant GROUP BY 1, 2, 3 ORDER BY 3;
            UPDATE fanouts f SET shards_total = n, shards_open = n
                FROM (SELECT event_id, count(DISTINCT shard) AS n FROM meant GROUP BY 1) m WHERE m.event_id = f.event_id;
            DELETE FROM outbox WHERE event_id IN (SELECT event_id FROM meant);
            UPDATE fanout_jobs j SET sequence = s.next_sequence FROM shards s
                WHERE s.shard = j.shard AND j.shard < \(shards) AND j.event_id IN (SELECT event_id FROM meant);
            UPDATE shards SET next_sequence = next_sequence + 1 WHERE shard < \(shards);
            INSERT INTO inbox (user_id, sequence, event_id)
                SELECT m.id, j.sequence, m.event_id FROM meant m JOIN fanout_jobs j USING (event_id, shard)
                WHERE j.shard < \(shards) AND (m.place <= 5 OR j.shard <> 2 OR \(progress == .complete));
            UPDATE fanout_jobs j SET recipients = w.count, written_cursor = w.last, pushed_cursor = w.first
                FROM (
                    SELECT u.shard, i.event_id, count(*), max(i.user_id) AS last, min(i.user_id) AS first
                    FROM inbox i JOIN users u ON u.id = i.user_id GROUP BY 1, 2
                ) w
                WHERE w.event_id = j.event_id AND w.shard = j.shard AND j.event_id IN (SELECT event_id FROM meant);
            UPDATE fanout_jobs SET is_written = true
                WHERE event_id IN (SELECT event_id FROM meant) AND shard < 2 AND written_cursor > 0;
            UPDATE shards s SET job = j.id FROM fanout_jobs j
                WHERE j.shard = s.shard AND j.shard = 2 AND j.event_id IN (SELECT event_id FROM meant);
            WITH gone AS (
                DELETE FROM fanout_jobs
                WHERE event_id IN (SELECT event_id FROM meant) AND is_written
                    AND (shard = 0 OR \(progress == .complete))
                RETURNING event_id, recipients
            ), sums AS (SELECT event_id, count(*) AS n, sum(recipients) AS recipients FROM gone GROUP BY 1)
            UPDATE fanouts f SET shards_open = shards_open - n, recipients = f.recipients + sums.recipients
                FROM sums WHERE sums.event_id = f.event_id;
            DROP TABLE meant;
            """)
        guard progress == .complete else { return }
        try await database.execute(
            """
            WITH gone AS (
                DELETE FROM fanout_jobs j USING events e
                WHERE e.id = j.event_id AND e.type = 'custom.\(type)' RETURNING j.event_id, j.recipients
            ), sums AS (SELECT event_id, sum(recipients) AS recipients FROM gone GROUP BY 1)
            UPDATE fanouts f SET shards_open = 0, recipients = f.recipients + sums.recipients, completed_at = now()
                FROM sums WHERE sums.event_id = f.event_id;
            """)
    }

    /// What the release before partitions had done: events in the log, written whole in half of the shards, and jobs with
    /// cursors.
    func begin(_ database: PostgresConnection, directly: [String], toJobs: [String]) async throws {
        func list(_ types: [String]) -> String { types.map { "'custom.\($0)'" }.joined(separator: ",") }
        let all = list(directly + toJobs)
        try await database.execute(
            """
            CREATE TEMP TABLE begun AS
                SELECT e.id AS event_id, nextval('fanout_numbers') AS number, e.type IN (\(list(toJobs))) AS is_large
                FROM (SELECT id, type FROM events WHERE type IN (\(all)) ORDER BY id) e;
            UPDATE fanouts f SET number = b.number, shards = '{0,1,2,3}', shards_total = 4, is_large = b.is_large,
                total = 60, relayed_at = now() FROM begun b WHERE b.event_id = f.event_id;
            DELETE FROM outbox WHERE event_id IN (SELECT event_id FROM begun);
            INSERT INTO inbox (user_id, sequence, event_id)
                SELECT u.id, b.number, b.event_id FROM begun b, users u
                WHERE u.name <> 'ada' AND NOT b.is_large AND u.shard < 2;
            INSERT INTO fanout_jobs (event_id, streamer, shard)
                SELECT b.event_id, u.id, s FROM begun b, users u, generate_series(0, 1) s
                WHERE u.name = 'ada' AND b.is_large ORDER BY b.event_id;
            INSERT INTO inbox (user_id, sequence, event_id)
                SELECT u.id, j.id + 10, j.event_id FROM fanout_jobs j JOIN users u ON u.shard = j.shard
                WHERE u.name <> 'ada' AND u.id < 31 AND j.event_id = (SELECT min(event_id) FROM fanout_jobs);
            UPDATE fanout_jobs SET cursor = 30, recipients = (SELECT count(*) FROM inbox i JOIN users u
                    ON u.id = i.user_id WHERE i.event_id = fanout_jobs.event_id AND u.shard = fanout_jobs.shard)
                WHERE event_id = (SELECT min(event_id) FROM fanout_jobs);
            INSERT INTO fanout_tallies (event_id, recipients) SELECT event_id, count(*) FROM inbox GROUP BY 1;
            UPDATE shards SET position = (SELECT last_value FROM fanout_numbers), next_sequence = 100,
                settled_sequence = 99, settled_position = (SELECT last_value FROM fanout_numbers) WHERE shard < 2;
            DROP TABLE begun;
            """)
    }
}
