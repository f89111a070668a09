import FanfareCore
import FanfareEngines
import FanfareModel
import FanfarePostgres
import FanfareTesting
import Logging
import Testing

/// The tests of this target share one server; what kills it has one of its own. Each takes a database.
enum Database {
    static func url() throws -> String { try PostgresServer.shared().createDatabase() }

    static func serverURL(_ database: String) throws -> String { try PostgresServer.shared().url(database: database) }

    static func configuration(_ change: (inout PostgresConfiguration) -> Void = { _ in }) throws
        -> PostgresConfiguration
    {
        var configuration = try PostgresConfiguration(url: try self.url())
        // The machine may be busy with other suites.
        configuration.queueTimeout = .seconds(60)
        change(&configuration)
        return configuration
    }

    /// A connection to an empty database, without the schema.
    static func connection() throws -> PostgresConnection { try PostgresConnection(try self.configuration()) }

    /// A store on a database of its own, for as long as `body` runs, and a connection to look behind it.
    static func withStore(
        _ change: (inout PostgresConfiguration) -> Void = { _ in },
        _ body: (PostgresStore, PostgresConnection) async throws -> Void
    ) async throws {
        let configuration = try self.configuration(change)
        let store = try PostgresStore(configuration, logger: .silent)
        store.start()
        let connection = try PostgresConnection(configuration)
        do {
            try await body(store, connection)
        } catch {
            print("store:", store.health)
            await store.stop()
            throw error
        }
        await store.stop()
        await connection.disconnect()
    }
}

struct TimedOut: Error {}

/// Waits for a condition, not for a time.
func eventually(
    within limit: Duration = .seconds(20), _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < deadline else { throw TimedOut() }
        try await Task.sleep(for: .milliseconds(5))
    }
}

func user(_ name: String) throws -> UserID { try #require(UserID(name)) }

extension PostgresConnection {
    func count(_ sql: String, _ parameters: [PostgresValue] = []) throws -> Int {
        try Int(self.run { session in try session.query(sql, parameters).onlyInt64() })
    }

    func execute(_ sql: String) throws { try self.run { session in try session.script(sql) } }
}

/// What owns the shards in these tests.
struct Owner {
    var node = NodeID("a")
    var view: UInt64 = 1
    var generation = "first"

    func claim(_ shards: [Shard] = Shard.all, of store: PostgresStore) async throws -> [Shard: Fence] {
        try await store.claimShards(
            shards, view: ViewNumber(generation: self.generation, number: self.view), node: self.node, incarnation: "i")
    }

    /// Relays, works all that is due and says that every push arrived.
    /// - Parameters:
    ///   - online: the users to whom what was not settled is pushed again.
    ///   - ahead: those online in a shard.
    @discardableResult
    func work(
        _ store: PostgresStore, limit: Int = 100, online: [UserKey] = [],
        ahead: @escaping @Sendable (Shard, Int) -> [UserKey] = { _, _ in [] }
    ) async throws -> [FanoutPush] {
        while try await store.relayOutbox(limit: 100).hasMore {}
        return try await self.workShards(store, limit: limit, online: online, ahead: ahead)
    }

    @discardableResult
    func workShards(
        _ store: PostgresStore, _ shards: [Shard] = Shard.all, limit: Int = 100, online: [UserKey] = [],
        ahead: @escaping @Sendable (Shard, Int) -> [UserKey] = { _, _ in [] }
    ) async throws -> [FanoutPush] {
        var pushes: [FanoutPush] = []
        var order = FanoutOrder(shards: try await self.claim(shards, of: store), limit: limit)
        while true {
            let batch = try await store.workFanout(order, online: ahead)
            pushes += batch.pushes
            order.cursor = batch.cursor
            order.settling = batch.settlement
            for shard in batch.fenced { order.shards[shard] = nil }
            if !batch.unsettled.isEmpty {
                let fences = order.shards.filter { batch.unsettled.contains($0.key) }
                let again = try await store.unsettledPushes(fences, to: online)
                pushes += again.pushes
                if var settlement = again.settlement {
                    if let settling = order.settling { settlement.merge(settling) }
                    order.settling = settlement
                }
            }
            guard batch.hasMore || order.settling != nil else { return pushes }
        }
    }
}

extension [FanoutPush] {
    var users: [UserKey] { self.flatMap { $0.recipients.map(\.user) } }
    var sequences: [UInt64] { self.flatMap { $0.recipients.map(\.sequence) } }
}

/// The code of a `FanfareError`, to expect it.
struct FanfareErrorCode: Error, Equatable {
    var code: UInt32
    init(_ code: UInt32) { self.code = code }
}

/// Runs `body`, with the code for the error that it throws.
@discardableResult
func codes<Value>(_ body: () async throws -> Value) async throws -> Value {
    do { return try await body() } catch let error as FanfareError { throw FanfareErrorCode(error.code) }
}

/// The code of the `EngineError` that `body` throws.
func engineCode(_ body: () async throws -> Void) async -> EngineError.Code? {
    do {
        try await body()
        return nil
    } catch { return (error as? EngineError)?.code }
}

extension Logger {
    static var silent: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }
}

extension PostgresConnection {
    /// The keys of users that the store knows.
    func keys(_ users: [UserID]) throws -> [UserKey] {
        try self.run { session in
            let rows = try session.query(
                """
                SELECT u.id FROM unnest($1::text[]) WITH ORDINALITY AS n (name, place) JOIN users u ON u.name = n.name
                ORDER BY n.place
                """, [.texts(users.map(\.rawValue))])
            var keys: [UserKey] = []
            for row in rows.indices { keys.append(UserKey(try rows.int64(row, 0))) }
            return keys
        }
    }

    func databaseName() throws -> String {
        try self.run { try $0.query("SELECT current_database()::text").string(0, 0) }
    }
}

/// The first `count` users of a shard whose names begin with `prefix`.
func users(in shard: Shard, _ count: Int, prefix: String = "u") throws -> [UserID] {
    var users: [UserID] = []
    var number = 0
    while users.count < count {
        let candidate = try user("\(prefix)\(number)")
        if Shard(of: candidate) == shard { users.append(candidate) }
        number += 1
    }
    return users
}

extension PostgresStore {
    func follow(_ streamer: UserID, by users: [UserID]) async throws {
        for user in users { try await self.follow(Follow(user: user, streamer: streamer)) }
    }

    func raid(_ streamer: UserID) async throws -> EventID {
        try await self.notify(
            NotificationRequest(audience: .followers(of: streamer), type: "raid", data: Array("{}".utf8)))
    }

    func inboxEvents(_ user: UserID) async throws -> [EventID] {
        try await self.notifications(InboxQuery(user: user, limit: 200)).entries.reversed().map(\.event)
    }
}

extension Shard {
    static var all: [Shard] { (0..<Shard.count).map(Shard.init(index:)) }
}

/// From now on inbox rows of these users raise `state`, and of nobody else.
func poison(_ database: PostgresConnection, _ users: [UserID], state: String = "23514") async throws {
    let names = users.map { "'\($0)'" }.joined(separator: ",")
    try await database.execute(
        """
        CREATE OR REPLACE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.user_id IN (SELECT id FROM users WHERE name IN (\(names))) THEN
                RAISE EXCEPTION 'poison' USING ERRCODE = '\(state)';
            END IF;
            RETURN NEW;
        END $$;
        CREATE OR REPLACE TRIGGER poison BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION poison();
        """)
}

func heal(_ database: PostgresConnection) async throws {
    try await database.execute("DROP TRIGGER poison ON inbox")
}
