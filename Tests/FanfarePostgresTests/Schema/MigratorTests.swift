import FanfareEngines
import FanfarePostgres
import FanfareTesting
import Testing

@Suite struct MigratorTests {
    @Test func twiceIsOnce() async throws {
        let configuration = try Database.configuration()
        let first = try await PostgresStore.migrate(configuration)
        #expect(first.map(\.number) == Schema.migrations.map(\.number))
        #expect(try await PostgresStore.migrate(configuration) == [])
        let connection = try PostgresConnection(configuration)
        #expect(try await connection.run { try Migrator.version($0) } == Schema.migrations.last?.number)
        try await connection.run { try Migrator.check($0) }
    }

    @Test func severalAtOnce() async throws {
        let configuration = try Database.configuration()
        let applied = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<8 { group.addTask { try await PostgresStore.migrate(configuration).count } }
            return try await group.reduce(0, +)
        }
        #expect(applied == Schema.migrations.count)
    }

    @Test func stepsFollowOneAnother() async throws {
        let connection = try Database.connection()
        let steps = [
            Migration(number: 1, name: "one", sql: "CREATE TABLE one (a int); CREATE TABLE other (a int)"),
            Migration(number: 2, name: "two", sql: "ALTER TABLE one ADD b int"),
        ]
        let (first, both) = (Array(steps.prefix(1)), steps)
        #expect(try await connection.run { try Migrator.migrate($0, first) }.map(\.name) == ["one"])
        #expect(try await connection.run { try Migrator.migrate($0, both) }.map(\.name) == ["two"])
        // A step that fails leaves nothing behind.
        let broken = steps + [Migration(number: 3, name: "three", sql: "CREATE TABLE three (a int); SELECT 1/0")]
        await #expect(throws: PostgresError.self) { try await connection.run { try Migrator.migrate($0, broken) } }
        #expect(try await connection.count("SELECT count(*) FROM pg_class WHERE relname = 'three'") == 0)
        #expect(try await connection.run { try Migrator.version($0) } == 2)
        // An older program stays away.
        await #expect { try await connection.run { try Migrator.migrate($0, first) } } throws: { error in
            String(describing: error).contains("version 2, newer than this program's 1")
        }
        await #expect(throws: PostgresError.self) { try await connection.run { try Migrator.check($0, first) } }
        await #expect(throws: PostgresError.self) { try await connection.run { try Migrator.check($0, broken) } }
    }

    @Test func aStoreRefusesANewerDatabase() async throws {
        try await Database.withStore { store, database in
            try await store.ensureUsers([try user("ada")])
            try await database.execute("INSERT INTO schema_migrations VALUES (1000, 'future')")
            let configuration = try PostgresConfiguration(
                url: try PostgresServer.shared().url(database: try await database.databaseName()))
            let old = try PostgresStore(configuration, logger: .silent)
            old.start()
            await #expect(throws: FanfareErrorCode(1004)) {
                try await codes { try await old.ensureUsers([try user("eve")]) }
            }
            try await eventually { old.health.problem?.contains("newer than this program's") == true }
            #expect(!old.health.isReachable)
            await old.stop()
        }
    }
}
