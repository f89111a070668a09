import FanfareEngines
import FanfareModel
import FanfarePostgres
import Synchronization
import Testing

private final class Flag: Sendable {
    let value = Mutex(false)
}

@Suite struct RelayTests {
    /// 64 writers whose commits are delayed at random, and several relays at once.
    @Test func everyEventOnceAndInOrder() async throws {
        try await Database.withStore({ $0.requestConnections = 64 }) { store, database in
            let streamers = try (0..<8).map { try user("s\($0)") }
            let followers = try (0..<4).map { try user("u\($0)") }
            for streamer in streamers { try await store.follow(streamer, by: followers) }
            // At the commit, when the ids were given long ago.
            try await database.execute(
                """
                CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN PERFORM pg_sleep(random() * 0.03); RETURN NULL; END $$;
                CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON outbox DEFERRABLE INITIALLY DEFERRED
                    FOR EACH ROW EXECUTE FUNCTION dawdle();
                """)
            let isWritten = Flag()
            let relayed = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<3 {
                    group.addTask {
                        var events = 0
                        while true {
                            let wasWritten = isWritten.value.withLock { $0 }
                            let relay = try await store.relayOutbox(limit: 7)
                            events += relay.events
                            if relay.events == 0 { try await Task.sleep(for: .milliseconds(2)) }
                            if wasWritten, relay.events == 0,
                                try await database.count("SELECT count(*) FROM outbox") == 0
                            {
                                return events
                            }
                        }
                    }
                }
                group.addTask {
                    try await withThrowingTaskGroup(of: Void.self) { writers in
                        for writer in 0..<64 {
                            writers.addTask {
                                for round in 0..<4 {
                                    if writer % 8 == 7 {
                                        _ = try await store.notify(
                                            NotificationRequest(audience: .users(followers), type: "raid", data: [0x31])
                                        )
                                    } else {
                                        _ = try await store.raid(streamers[(writer + round) % 8])
                                    }
                                }
                            }
                        }
                        try await writers.waitForAll()
                    }
                    isWritten.value.withLock { $0 = true }
                    return 0
                }
                return try await group.reduce(0, +)
            }
            #expect(relayed == 256)
            #expect(try await database.count("SELECT count(DISTINCT number) FROM fanouts") == 256)
            let swapped = try await database.count(
                """
                SELECT count(*) FROM fanouts a JOIN fanouts b
                ON a.streamer = b.streamer AND a.number < b.number AND a.event_id > b.event_id
                """)
            #expect(swapped == 0)
            try await Owner().work(store)
            #expect(try await database.count("SELECT count(*) FROM inbox") == 256 * 4)
            #expect(try await database.count("SELECT count(*) FROM fanouts WHERE completed_at IS NULL") == 0)
        }
    }

    @Test func aRowAtFaultDoesNotHoldUpTheOthers() async throws {
        try await Database.withStore { store, database in
            let (ada, eve, bob) = (try user("ada"), try user("eve"), try user("bob"))
            try await store.follow(ada, by: [bob])
            try await store.follow(eve, by: [bob])
            try await database.execute(
                """
                CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    IF NEW.number IS NOT NULL AND NEW.streamer = (SELECT id FROM users WHERE name = 'eve') THEN RAISE EXCEPTION 'poison'; END IF;
                    RETURN NEW;
                END $$;
                CREATE TRIGGER poison BEFORE UPDATE ON fanouts FOR EACH ROW EXECUTE FUNCTION poison();
                """)
            let events = [
                try await store.raid(ada), try await store.raid(eve), try await store.raid(ada),
                try await store.raid(eve),
            ]
            var relayed = 0
            while case let relay = try await store.relayOutbox(limit: 10), relay.events > 0 { relayed += relay.events }
            #expect(relayed == 2)
            let letters = try await store.deadLetters(DeadLetterFilter(kind: "outbox"))
            #expect(letters.compactMap(\.event) == [events[1], events[3]])
            try await database.execute("DROP TRIGGER poison ON fanouts")
            #expect(try await store.replayDeadLetters([letters[0].id]) == 1)
            #expect(try await store.discardDeadLetters([letters[1].id]) == 1)
            try await Owner().work(store)
            #expect(Set(try await store.inboxEvents(bob)) == [events[0], events[1], events[2]])
            #expect(try await store.eventStatus(events[3]).completedAt != nil)
            #expect(try await database.count("SELECT count(*) FROM outbox") == 0)
        }
    }
}
