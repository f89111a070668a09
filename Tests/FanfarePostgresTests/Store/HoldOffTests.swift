import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

/// A streamer whose connection flaps is announced once.
@Suite struct HoldOffTests {
    @Test func aStreamThatIsStartedAgainGoesOn() async throws {
        try await Database.withStore { store, database in
            let (ada, bob) = (try user("ada"), try user("bob"))
            try await store.follow(ada, by: [bob])
            let start = StreamStart(streamer: ada, title: "t", tags: ["a"])
            let first = try await store.startStream(start)
            for round in 0..<3 {
                _ = try await store.stopStream(.streamer(ada))
                var again = start
                again.idempotencyKey = round == 1 ? "k" : nil
                let resumed = try await store.startStream(again)
                #expect(resumed == first)
                await #expect(throws: FanfareErrorCode(1001)) {
                    try await codes { _ = try await store.startStream(start) }
                }
            }
            try await Owner().work(store)
            #expect(try await store.inboxEvents(bob) == [first.event])
            // With the key of one of them, the first result.
            var keyed = start
            keyed.idempotencyKey = "k"
            #expect(try await store.startStream(keyed).event == first.event)
            // Another title or other tags: another stream.
            for change in [("u", ["a"]), ("u", [])] {
                _ = try await store.stopStream(.streamer(ada))
                let other = try await store.startStream(
                    StreamStart(streamer: ada, title: change.0, tags: change.1))
                #expect(other.event != first.event && other.stream.id != first.stream.id)
            }
            #expect(try await database.count("SELECT count(*) FROM events") == 3)
        }
    }

    @Test func laterItIsAnotherOne() async throws {
        try await Database.withStore { store, database in
            let ada = try user("ada")
            let start = StreamStart(streamer: ada, title: "t")
            let first = try await store.startStream(start)
            _ = try await store.stopStream(.streamer(ada))
            try await database.execute("UPDATE streams SET started_at = started_at - interval '31 seconds'")
            #expect(try await store.startStream(start).event != first.event)
        }
        try await Database.withStore({ $0.holdOff = .zero }) { store, _ in
            let start = StreamStart(streamer: try user("ada"), title: "t")
            let first = try await store.startStream(start)
            _ = try await store.stopStream(.streamer(start.streamer))
            #expect(try await store.startStream(start).event != first.event)
        }
    }
}
