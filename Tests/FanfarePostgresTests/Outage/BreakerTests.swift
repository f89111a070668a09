import FanfareCore
import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

@Suite struct BreakerTests {
    /// New users are refused as by a server without room on its disk, and so are the probes of `write`; each try is counted,
    /// whatever becomes of its transaction.
    private func fillUp(_ database: PostgresConnection) async throws {
        try await database.execute(
            """
            CREATE SEQUENCE user_tries; CREATE SEQUENCE probe_tries;
            CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                PERFORM nextval(TG_ARGV[0]::regclass);
                RAISE EXCEPTION 'no space left' USING ERRCODE = '53100';
            END $$;
            CREATE TRIGGER full_disk BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION full_disk('user_tries');
            CREATE TRIGGER full_disk BEFORE UPDATE ON instance FOR EACH ROW EXECUTE FUNCTION full_disk('probe_tries');
            """)
    }

    private func tries(_ database: PostgresConnection, _ sequence: String) async throws -> Int {
        try await database.count("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM \(sequence)")
    }

    @Test func writesThatFailLeaveReadersAndTheFanoutAlone() async throws {
        try await Database.withStore { store, database in
            let (ada, bob) = (try user("ada"), try user("bob"))
            try await store.follow(ada, by: [bob])
            let event = try await store.raid(ada)
            try await eventually { store.health.isReachable }
            #expect(store.health.breakers == ["read": "closed", "write": "closed", "fanout": "closed"])
            try await self.fillUp(database)
            var number = 0
            try await eventually {
                number += 1
                await #expect(throws: FanfareErrorCode(1004)) {
                    try await codes { try await store.ensureUsers([try user("new\(number)")]) }
                }
                return store.health.breakers["write"] != "closed"
            }
            #expect(store.health.breaker != "closed" && !store.health.isReachable)
            let reached = try await self.tries(database, "user_tries")
            // A hundred callers for as long as several probes take: none gets through, all are told when to come back.
            let probes = try await self.tries(database, "probe_tries")
            try await eventually {
                await withTaskGroup { group in
                    for _ in 0..<20 {
                        group.addTask {
                            do {
                                try await store.ensureUsers([try user("late")])
                                Issue.record("written while the breaker is open")
                            } catch {
                                let delay = (error as? FanfareError)?.retryAfterMilliseconds ?? 0
                                #expect((100...3000).contains(delay))
                            }
                        }
                    }
                }
                // Readers go on, and so does the fan-out.
                #expect(try await store.inbox(of: bob, after: nil, limit: 10).entries.isEmpty)
                #expect(store.health.breakers["read"] == "closed" && store.health.breakers["fanout"] == "closed")
                return try await self.tries(database, "probe_tries") >= probes + 3
            }
            #expect(try await self.tries(database, "user_tries") == reached)
            try await Owner().work(store)
            #expect(try await store.inboxEvents(bob) == [event])
            try await database.execute("DROP FUNCTION full_disk() CASCADE")
            // By itself: nobody calls.
            try await eventually { store.health.breakers["write"] == "closed" && store.health.isReachable }
            try await store.ensureUsers([try user("new")])
        }
    }

    /// The open time doubles with each probe that fails: so few probes fit into a time.
    @Test func probesBecomeRare() async throws {
        try await Database.withStore { store, database in
            try await store.ensureUsers([try user("ada")])
            try await self.fillUp(database)
            let begun = ContinuousClock.now
            try await eventually {
                _ = try? await store.ensureUsers([try user("new")])
                return try await self.tries(database, "probe_tries") >= 4
            }
            // At least half of 250, 500, 1000 and 2000 milliseconds before the fourth one.
            #expect(ContinuousClock.now - begun >= .milliseconds(1875))
        }
    }
}
