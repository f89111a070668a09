import FanfareEngines
import FanfareModel
import FanfarePostgres
import FanfareTesting
import Testing

@Suite struct OutageTests {
    /// A server and a store of one's own.
    private func withServer(
        _ change: (inout PostgresConfiguration) -> Void = { _ in },
        _ body: (PostgresServer, PostgresStore) async throws -> Void
    ) async throws {
        let server = try PostgresServer()
        var configuration = try PostgresConfiguration(url: server.url())
        change(&configuration)
        let store = try PostgresStore(configuration, logger: .silent)
        store.start()
        try await body(server, store)
        await store.stop()
    }

    @Test func theServerIsKilledAndComesBack() async throws {
        try await self.withServer({ $0.directRecipients = 4 }) { server, store in
            let (ada, shard) = (try user("ada"), Shard(index: 3))
            let followers = try users(in: shard, 10)
            try await store.follow(ada, by: followers)
            let event = try await store.raid(ada)
            _ = try await store.relayOutbox(limit: 10)
            let fences = try await Owner().claim([shard], of: store)
            let batch = try await store.workFanout(FanoutOrder(shards: fences, limit: 4))
            #expect(batch.rows == 4)
            let keys = batch.pushes.users
            #expect(store.health.isReachable && store.health.breaker == "closed" && store.health.problem == nil)

            try server.kill()
            try await eventually {
                // Each says the same thing, and when to come back.
                do {
                    _ = try await store.raid(ada)
                    return false
                } catch let error as FanfareError {
                    #expect(error.code == 1004 && error.isTemporary && (error.retryAfterMilliseconds ?? 0) > 0)
                    return store.health.breaker != "closed"
                }
            }
            #expect(!store.health.isReachable && store.health.problem != nil)
            let start = ContinuousClock.now
            for _ in 0..<200 {
                await #expect(throws: FanfareErrorCode(1004)) {
                    try await codes { _ = try await store.inbox(of: ada, after: nil, limit: 1) }
                }
            }
            // Refused at the door, not one timeout after the other.
            #expect(ContinuousClock.now - start < .seconds(2))
            #expect(
                await engineCode {
                    _ = try await store.workFanout(
                        FanoutOrder(shards: fences, limit: 4, settling: batch.settlement))
                } == .unavailable)
            #expect(
                await engineCode { _ = try await store.appendDirect("dm:a:b", [AppendEntry(body: [])]) } == .unavailable
            )

            try server.start()
            // By itself: nobody calls.
            try await eventually { store.health.isReachable && store.health.breaker == "closed" }
            #expect(try await store.workFanout(FanoutOrder(shards: fences, limit: 4)).unsettled == [shard])
            #expect(try await store.unsettledPushes(fences, to: keys).pushes == batch.pushes)
            try await Owner().work(store, limit: 4)
            for follower in followers { #expect(try await store.inboxEvents(follower) == [event]) }
        }
    }

    @Test func aServerThatHangsIsLeftAlone() async throws {
        try await self.withServer({
            $0.statementTimeout = .milliseconds(200)
            $0.connectTimeout = .seconds(2)
        }) { server, store in
            let ada = try user("ada")
            try await store.ensureUsers([ada])
            try server.pause()
            let start = ContinuousClock.now
            await #expect(throws: FanfareErrorCode(1004)) { try await codes { try await store.ensureUsers([ada]) } }
            #expect(ContinuousClock.now - start < .seconds(8))
            try await eventually { store.health.breaker != "closed" || !store.health.isReachable }
            try server.resume()
            try await eventually { store.health.isReachable }
            try await store.ensureUsers([ada, try user("eve")])
        }
    }

    @Test func aStoreStartsBeforeItsDatabase() async throws {
        let server = try PostgresServer()
        try server.stop()
        let store = try PostgresStore(try PostgresConfiguration(url: server.url()), logger: .silent)
        store.start()
        #expect(!store.health.isReachable)
        await #expect(throws: FanfareErrorCode(1004)) {
            try await codes { try await store.ensureUsers([try user("a")]) }
        }
        try server.start()
        try await eventually { store.health.isReachable }
        try await store.ensureUsers([try user("a")])
        await store.stop()
        await #expect(throws: FanfareErrorCode(1004)) {
            try await codes { try await store.ensureUsers([try user("b")]) }
        }
        await store.stop()
    }

    @Test func callersAndWaitersAreBounded() async throws {
        try await Database.withStore({
            $0.requestConnections = 1
            $0.queueLimit = 3
            $0.queueTimeout = .milliseconds(300)
        }) { store, database in
            let (ada, eve) = (try user("ada"), try user("eve"))
            try await store.ensureUsers([ada, eve])
            let id = try await database.count("SELECT id FROM users WHERE name = 'ada'")
            // Somebody holds the streamer's lock: the one connection waits for it.
            try await database.execute("SELECT pg_advisory_lock(hashint8extended(\(id), 1))")
            let outcomes = await withTaskGroup(of: UInt32.self) { group in
                for _ in 0..<12 {
                    group.addTask {
                        do {
                            _ = try await store.raid(ada)
                            return 0
                        } catch { return error is FanfareError ? (error as? FanfareError)?.code ?? 1 : 1 }
                    }
                }
                // The fan-out has connections of its own.
                let relay = try? await store.relayOutbox(limit: 1)
                #expect(relay != nil)
                var codes: [UInt32] = []
                for await code in group {
                    codes.append(code)
                    if codes.count == 11 { try? await database.execute("SELECT pg_advisory_unlock_all()") }
                }
                return codes
            }
            // Eight at once were too many, three waited too long, one got through in the end.
            #expect(outcomes.count { $0 == 1004 } == 11)
            #expect(outcomes.count { $0 == 0 } == 1)
        }
    }
}
