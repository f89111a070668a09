import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

@Suite struct SessionTests {
    @Test func valuesComeBackAsTheyWereSent() async throws {
        let connection = try Database.connection()
        try await connection.run { session in
            for value in [0, 1, -1, .min, .max] as [Int64] {
                #expect(try session.query("SELECT $1::int8", [.int8(value)]).int64(0, 0) == value)
            }
            for value in [.min, -1, 0, .max] as [Int16] {
                #expect(try session.query("SELECT $1::int2", [.int2(value)]).int64(0, 0) == Int64(value))
            }
            for value in [.min, .max] as [Int32] {
                #expect(try session.query("SELECT $1::int4", [.int4(value)]).int64(0, 0) == Int64(value))
            }
            for value in ["", "a", "\"\\'\n\t", "ü🦄", String(repeating: "x", count: 100_000)] {
                #expect(try session.query("SELECT $1::text", [.text(value)]).string(0, 0) == value)
            }
            for value in [[], [0], Array(0...255)] as [Bytes] {
                #expect(try session.query("SELECT $1::bytea", [.bytea(value)]).bytes(0, 0) == value)
            }
            #expect(try session.query("SELECT $1::bool", [.bool(true)]).bool(0, 0))
            #expect(try !session.query("SELECT $1::bool", [.bool(false)]).bool(0, 0))
            for value in [.int8(nil), .text(nil), .bytea(nil), .bool(nil), .int2(nil), .int4(nil)] as [PostgresValue] {
                let rows = try session.query("SELECT \(value == .int8(nil) ? "$1::int8" : "$1")", [value])
                #expect(rows.isNull(0, 0))
            }
            let texts = ["", "a,b", "{x}", "NULL", "ü"]
            #expect(try session.query("SELECT $1::text[]", [.texts(texts)]).texts(0, 0) == texts)
            #expect(try session.query("SELECT $1::text[]", [.texts([])]).texts(0, 0) == [])
            #expect(
                try session.query("SELECT sum(x)::int8 FROM unnest($1::int8[]) x", [.int8s([1, 2, 39])]).onlyInt64()
                    == 42)
            #expect(try session.query("SELECT count(*) FROM unnest($1::int2[]) x", [.int2s([])]).onlyInt64() == 0)
            #expect(
                try session.query("SELECT sum(length(x)) FROM unnest($1::bytea[]) x", [.byteas([[1, 2], [], [3]])])
                    .onlyInt64() == 3)
            let time = try session.query(
                "SELECT '2026-01-31 12:00:00.1239Z'::timestamptz, '1969-12-31 23:59:59.9995Z'::timestamptz")
            #expect(try time.timestamp(0, 0).description == "2026-01-31T12:00:00.123Z")
            #expect(try time.timestamp(0, 1).description == "1969-12-31T23:59:59.999Z")
        }
    }

    @Test func aWrongTypeIsAnErrorAndNoCrash() async throws {
        let connection = try Database.connection()
        try await connection.run { session in
            let rows = try session.query("SELECT 1::int8, 'a'::text, NULL::int8")
            #expect(throws: PostgresError.self) { try rows.string(0, 0) }
            #expect(throws: PostgresError.self) { try rows.int64(0, 1) }
            #expect(throws: PostgresError.self) { try rows.int64(0, 2) }
            #expect(throws: PostgresError.self) { try rows.int64(1, 0) }
            #expect(throws: PostgresError.self) { try rows.texts(0, 1) }
            #expect(try rows.int64OrNil(0, 2) == nil)
        }
    }

    @Test func errorsCarryTheirState() async throws {
        let connection = try Database.connection()
        try await connection.run { session in
            func state(_ sql: String, _ parameters: [PostgresValue] = []) -> String? {
                do {
                    try session.query(sql, parameters)
                    return nil
                } catch { return error.sqlState }
            }
            #expect(state("SELECT 1 / $1::int8", [.int8(0)]) == "22012")
            #expect(state("SELECT * FROM nowhere") == "42P01")
            #expect(state("SELEC 1") == "42601")
            #expect(state("SELECT 1; SELECT 2") == "42601")
            #expect(state("SELECT $1::text", [.text("a\u{0}b")]) == "22021")
            try session.script("CREATE TABLE t (a int CONSTRAINT only_once UNIQUE)")
            try session.query("INSERT INTO t VALUES (1)")
            do {
                try session.query("INSERT INTO t VALUES (1)")
                Issue.record("no error")
            } catch let error as PostgresError {
                #expect(error.sqlState == "23505")
                #expect(error.constraint == "only_once")
                #expect(!error.mayHaveCommitted)
            }
            // The session goes on.
            #expect(try session.query("SELECT 7::int8").onlyInt64() == 7)
            // A COPY that nobody asked for does not hang.
            #expect(throws: PostgresError.self) { try session.script("COPY t TO STDOUT") }
        }
        // And a session that was given up is replaced.
        #expect(try await connection.count("SELECT 8::int8") == 8)
    }

    @Test func transactions() async throws {
        struct Mine: Error {}
        let connection = try Database.connection()
        try await connection.run { session in
            try session.script("CREATE TABLE t (a int)")
            _ = try session.transaction { try session.query("INSERT INTO t VALUES (1)") }
            #expect(throws: Mine.self) {
                try session.transaction {
                    try session.query("INSERT INTO t VALUES (2)")
                    throw Mine()
                }
            }
            #expect(throws: PostgresError.self) {
                try session.transaction {
                    try session.query("INSERT INTO t VALUES (3)")
                    try session.query("SELECT 1/0")
                }
            }
            // COMMIT of a failed transaction answers without an error: it must not pass for one that was done.
            #expect(throws: PostgresError.self) {
                try session.transaction {
                    try session.query("INSERT INTO t VALUES (4)")
                    _ = try? session.query("SELECT 1/0")
                }
            }
            #expect(try session.query("SELECT count(*) FROM t").onlyInt64() == 1)
        }
    }

    @Test func aPlanThatNoLongerFitsIsPreparedAnew() async throws {
        let connection = try Database.connection()
        try await connection.run { session in
            try session.script("CREATE TABLE t (a int8)")
            try session.query("INSERT INTO t VALUES (5)")
            #expect(try session.query("SELECT * FROM t").int64(0, 0) == 5)
            try session.script("ALTER TABLE t ADD b int8 DEFAULT 6")
            do { try session.query("SELECT * FROM t") } catch {
                #expect((error as? PostgresError)?.reaction == .retryTransaction)
            }
            #expect(try session.query("SELECT * FROM t").int64(0, 1) == 6)
            // Forgotten by the server: as after DISCARD ALL by a connection pooler.
            try session.script("DEALLOCATE ALL")
            do { try session.query("SELECT * FROM t") } catch {
                #expect((error as? PostgresError)?.reaction == .retryTransaction)
            }
            #expect(try session.query("SELECT * FROM t").int64(0, 1) == 6)
        }
    }

    @Test func copy() async throws {
        let connection = try Database.connection()
        let count = 50_000
        try await connection.run { session in
            try session.script("CREATE TABLE t (a text, b int2, c int8)")
            let rows = (0..<count).lazy.map { (number: Int) -> [PostgresValue] in
                let third: Int64? = number % 2 == 0 ? nil : Int64(number)
                return [.text("name \(number)"), .int2(Int16(number % 100)), .int8(third)]
            }
            #expect(try session.copy("COPY t FROM STDIN (FORMAT binary)", rows: rows) == count)
            #expect(try session.query("SELECT count(c) FROM t").onlyInt64() == Int64(count / 2))
            #expect(throws: PostgresError.self) {
                try session.copy("COPY t FROM STDIN (FORMAT binary)", rows: [[.text("too few")]])
            }
            #expect(throws: PostgresError.self) { try session.copy("SELECT 1", rows: [[]]) }
            #expect(try session.query("SELECT count(*) FROM t").onlyInt64() == Int64(count))
        }
    }

    @Test func timeouts() async throws {
        let configuration = try Database.configuration {
            $0.statementTimeout = .milliseconds(100)
            $0.lockTimeout = .milliseconds(50)
        }
        let (first, second) = (try PostgresConnection(configuration), try PostgresConnection(configuration))
        await #expect { try await first.execute("SELECT pg_sleep(5)") } throws: { error in
            (error as? PostgresError)?.sqlState == "57014"
        }
        try await first.execute("SELECT pg_advisory_lock(1)")
        await #expect { try await second.execute("SELECT pg_advisory_lock(1)") } throws: { error in
            (error as? PostgresError)?.sqlState == "55P03"
        }
    }

    @Test func aKilledSessionIsReplaced() async throws {
        let configuration = try Database.configuration()
        let (victim, killer) = (try PostgresConnection(configuration), try PostgresConnection(configuration))
        let idle = try await victim.run { $0.processID }
        try await killer.execute("SELECT pg_terminate_backend(\(idle), 5000)")
        await #expect { try await victim.execute("SELECT 1") } throws: { error in
            (error as? PostgresError)?.reaction == .reconnect
        }
        let busy = try await victim.run { $0.processID }
        #expect(busy != idle)
        async let outcome: Result<Void, PostgresError> = {
            do {
                try await victim.execute("SELECT pg_sleep(30)")
                return .success(())
            } catch let error as PostgresError { return .failure(error) }
        }()
        try await eventually {
            try await killer.count(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = \(busy) AND wait_event = 'PgSleep'") == 1
        }
        try await killer.execute("SELECT pg_terminate_backend(\(busy), 5000)")
        guard case .failure(let error) = try await outcome else {
            Issue.record("no error")
            return
        }
        #expect(error.reaction == .reconnect)
        #expect(error.mayHaveCommitted)
        #expect(try await victim.count("SELECT 3::int8") == 3)
    }

    @Test func nobodyListens() async throws {
        let connection = try PostgresConnection(try PostgresConfiguration(url: "postgres://ada:secret@127.0.0.1:1/fan"))
        await #expect { try await connection.execute("SELECT 1") } throws: { error in
            (error as? PostgresError)?.kind == .connect && !String(describing: error).contains("secret")
        }
    }
}
