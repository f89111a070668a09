import CLibPQ
import FanfareModel
import Glibc

/// One libpq connection, used by one thread: its methods block, each with a deadline. Statements with parameters are
/// prepared at their first use. After an error of the link it is dead and stays dead.
package final class PostgresSession {
    private enum Transaction { case none, open, committing }

    private let connection: OpaquePointer
    /// How long an answer may take. Longer than the server's own limits, which speak first.
    package var answerTimeout: Duration
    private var prepared: [String: String] = [:]
    private var preparedCount = 0
    private var transaction = Transaction.none
    private var scratch: Bytes = []
    package private(set) var isDead = false

    /// Statements kept prepared; above, all are forgotten.
    private static let preparedLimit = 512

    /// Connects, within the configuration's connect timeout.
    package init(_ configuration: PostgresConfiguration) throws(PostgresError) {
        let parameters = configuration.connectionParameters
        let strings = parameters.map { (strdup($0.name), strdup($0.value)) }
        defer {
            for (name, value) in strings {
                free(name)
                free(value)
            }
        }
        let names = strings.map { UnsafePointer($0.0) } + [nil]
        let values = strings.map { UnsafePointer($0.1) } + [nil]
        guard let connection = PQconnectdbParams(names, values, 0) else {
            throw PostgresError(.connect, "out of memory")
        }
        guard PQstatus(connection) == CONNECTION_OK else {
            let message = PostgresSession.firstLine(PQerrorMessage(connection))
            PQfinish(connection)
            throw PostgresError(.connect, message)
        }
        // Notices would go to standard error.
        PQsetNoticeProcessor(connection, { _, _ in }, nil)
        PQsetnonblocking(connection, 1)
        self.connection = connection
        self.answerTimeout = configuration.statementTimeout + .seconds(1)
    }

    deinit { PQfinish(self.connection) }

    /// The server's process, as in `pg_stat_activity`.
    package var processID: Int32 { PQbackendPID(self.connection) }

    /// The server's version: 150004 is 15.4.
    package var serverVersion: Int32 { PQserverVersion(self.connection) }

    // MARK: Statements

    /// Runs one statement, prepared, with binary parameters and results.
    @discardableResult
    package func query(_ sql: String, _ parameters: [PostgresValue] = []) throws(PostgresError) -> PostgresRows {
        let name = try self.prepare(sql, parameters)
        self.scratch.removeAll(keepingCapacity: true)
        // An empty value needs an address all the same: nil means NULL.
        self.scratch.append(0)
        var ranges: [Range<Int>?] = []
        for parameter in parameters {
            let start = self.scratch.count
            ranges.append(parameter.encode(into: &self.scratch) ? start..<self.scratch.count : nil)
        }
        let sent = self.scratch.withUnsafeBytes { bytes in
            let start = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
            let pointers = ranges.map { range in range.flatMap { range in start.map { $0 + range.lowerBound } } }
            let lengths = ranges.map { Int32($0?.count ?? 0) }
            let formats = [Int32](repeating: 1, count: ranges.count)
            return PQsendQueryPrepared(self.connection, name, Int32(ranges.count), pointers, lengths, formats, 1)
        }
        guard sent == 1 else { throw self.linkLost() }
        return try self.rows()
    }

    /// Runs statements without parameters, in text, as one implicit transaction where none is open.
    package func script(_ sql: String) throws(PostgresError) {
        guard PQsendQuery(self.connection, sql) == 1 else { throw self.linkLost() }
        _ = try self.rows()
    }

    /// Forgets the prepared statements: after 26000, or where a plan no longer fits.
    private func forgetPrepared() { self.prepared.removeAll() }

    private func prepare(_ sql: String, _ parameters: [PostgresValue]) throws(PostgresError) -> String {
        if let name = self.prepared[sql] { return name }
        if self.prepared.count >= PostgresSession.preparedLimit {
            self.forgetPrepared()
            try self.script("DEALLOCATE ALL")
        }
        // Names are never used twice, so that a forgotten one cannot be in the way.
        self.preparedCount += 1
        let name = "s\(self.preparedCount)"
        let types = parameters.map(\.oid)
        guard PQsendPrepare(self.connection, name, sql, Int32(types.count), types) == 1 else { throw self.linkLost() }
        _ = try self.rows()
        self.prepared[sql] = name
        return name
    }

    // MARK: Transactions

    /// Runs `body` between BEGIN and COMMIT, and ROLLBACK where it throws.
    package func transaction<Value>(_ body: () throws -> Value) throws -> Value {
        self.transaction = .open
        defer { self.transaction = .none }
        try self.script("BEGIN")
        let value: Value
        do {
            value = try body()
        } catch {
            if !self.isDead {
                do { try self.script("ROLLBACK") } catch { self.isDead = true }
            }
            throw error
        }
        self.transaction = .committing
        let answer = try self.command("COMMIT")
        // COMMIT of a transaction that failed answers without an error.
        guard answer == "COMMIT" else {
            throw PostgresError(.unexpectedAnswer, "COMMIT was answered with \(answer)")
        }
        return value
    }

    private func command(_ sql: String) throws(PostgresError) -> String {
        guard PQsendQuery(self.connection, sql) == 1 else { throw self.linkLost() }
        return try self.rows().tag
    }

    // MARK: COPY

    /// Runs `COPY … FROM STDIN (FORMAT binary)` with rows of text, int2 and int8 fields.
    /// - Returns: how many rows were copied.
    package func copy(_ sql: String, rows: some Sequence<[PostgresValue]>) throws(PostgresError) -> Int {
        guard PQsendQuery(self.connection, sql) == 1 else { throw self.linkLost() }
        let deadline = self.deadline()
        try self.waitUntilFlushed(deadline)
        try self.waitForAnswer(deadline)
        guard let first = PQgetResult(self.connection) else { throw self.linkLost() }
        let status = PQresultStatus(first)
        guard status == PGRES_COPY_IN else {
            PQclear(first)
            _ = try self.rows()
            throw PostgresError(.unexpectedAnswer, "the statement is no COPY from the client")
        }
        PQclear(first)
        // Signature, flags, length of the header's extension.
        var buffer: Bytes = Array("PGCOPY\n".utf8) + [0xff, 0x0d, 0x0a, 0] + [UInt8](repeating: 0, count: 8)
        for row in rows {
            PostgresValue.append(Int16(row.count), to: &buffer)
            for value in row {
                let lengthAt = buffer.count
                PostgresValue.append(-1 as Int32, to: &buffer)
                guard value.encode(into: &buffer) else { continue }
                let length = UInt32(buffer.count - lengthAt - 4)
                for index in 0..<4 { buffer[lengthAt + index] = UInt8(truncatingIfNeeded: length >> (24 - 8 * index)) }
            }
            if buffer.count >= 1 << 18 {
                try self.put(buffer)
                buffer.removeAll(keepingCapacity: true)
            }
        }
        PostgresValue.append(-1 as Int16, to: &buffer)
        try self.put(buffer)
        while true {
            let ended = PQputCopyEnd(self.connection, nil)
            if ended == 1 { break }
            guard ended == 0 else { throw self.linkLost() }
            try self.waitUntilFlushed(self.deadline())
        }
        return try self.rows().affected
    }

    private func put(_ bytes: Bytes) throws(PostgresError) {
        while true {
            let put = bytes.withUnsafeBytes { bytes in
                PQputCopyData(
                    self.connection, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(bytes.count))
            }
            if put == 1 { return }
            guard put == 0 else { throw self.linkLost() }
            try self.waitUntilFlushed(self.deadline())
        }
    }

    // MARK: Answers

    /// Waits for the whole answer of what was sent; of several results the last one counts, but an error wins.
    private func rows() throws(PostgresError) -> PostgresRows {
        let deadline = self.deadline()
        try self.waitUntilFlushed(deadline)
        var rows: PostgresRows?
        var failure: PostgresError?
        while true {
            try self.waitForAnswer(deadline)
            guard let result = PQgetResult(self.connection) else { break }
            switch PQresultStatus(result) {
            case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY:
                rows = PostgresRows(result: result)
            case PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH:
                // Not ours: there is no way on but to give the connection up.
                PQclear(result)
                self.isDead = true
                throw PostgresError(.unexpectedAnswer, "the statement began a COPY")
            default:
                let error = self.error(of: result)
                PQclear(result)
                // After the server's last words comes one more error, without a code.
                failure = failure ?? error
            }
        }
        if PQstatus(self.connection) != CONNECTION_OK { self.isDead = true }
        if var failure {
            if failure.sqlState == "26000" || failure.reaction == .retryTransaction { self.forgetPrepared() }
            if self.isDead { failure.mayHaveCommitted = self.transaction != .open }
            throw failure
        }
        guard let rows else { throw self.linkLost() }
        return rows
    }

    private func deadline() -> Int64 { PostgresSession.now() + self.answerTimeout.nanoseconds }

    private func waitUntilFlushed(_ deadline: Int64) throws(PostgresError) {
        while true {
            let state = PQflush(self.connection)
            if state == 0 { return }
            guard state == 1 else { throw self.linkLost() }
            let ready = try self.poll(Int16(POLLIN | POLLOUT), deadline)
            if ready & Int16(POLLIN) != 0, PQconsumeInput(self.connection) == 0 { return }
        }
    }

    private func waitForAnswer(_ deadline: Int64) throws(PostgresError) {
        while PQisBusy(self.connection) != 0 {
            _ = try self.poll(Int16(POLLIN), deadline)
            // Where the link is gone, libpq makes a result of it.
            if PQconsumeInput(self.connection) == 0 { return }
        }
    }

    private func poll(_ events: Int16, _ deadline: Int64) throws(PostgresError) -> Int16 {
        while true {
            let rest = deadline - PostgresSession.now()
            guard rest > 0 else {
                self.isDead = true
                throw PostgresError(
                    .noAnswer, "no answer from the database within \(self.answerTimeout)",
                    mayHaveCommitted: self.transaction != .open)
            }
            var descriptor = pollfd(fd: PQsocket(self.connection), events: events, revents: 0)
            guard descriptor.fd >= 0 else { throw self.linkLost() }
            let ready = Glibc.poll(&descriptor, 1, Int32(clamping: rest / 1_000_000 + 1))
            if ready > 0 { return descriptor.revents | (events & Int16(POLLIN)) }
            if ready < 0, errno != EINTR { throw self.linkLost() }
        }
    }

    private func linkLost() -> PostgresError {
        self.isDead = true
        let message = PostgresSession.firstLine(PQerrorMessage(self.connection))
        return PostgresError(
            .linkLost, message.isEmpty ? "the connection was lost" : message,
            mayHaveCommitted: self.transaction != .open)
    }

    private func error(of result: OpaquePointer) -> PostgresError {
        // PG_DIAG_SQLSTATE, PG_DIAG_MESSAGE_PRIMARY, PG_DIAG_CONSTRAINT_NAME: macros that Swift does not import.
        func field(_ code: UnicodeScalar) -> String? {
            PQresultErrorField(result, Int32(code.value)).map { String(cString: $0) }
        }
        guard let state = field("C") else { return self.linkLost() }
        return PostgresError(.server(state), field("M") ?? "", constraint: field("n"))
    }

    private static func firstLine(_ text: UnsafePointer<CChar>?) -> String {
        guard let text else { return "" }
        let lines = String(cString: text).split(separator: "\n")
        return lines.joined(separator: "; ")
    }

    private static func now() -> Int64 { MonotonicClock.now().nanoseconds }
}
