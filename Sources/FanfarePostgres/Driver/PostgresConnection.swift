/// A place for one connection: an actor on a thread of its own, in which libpq may block. It connects when it is first
/// used and again after the link broke.
package actor PostgresConnection {
    package nonisolated let unownedExecutor: UnownedSerialExecutor
    /// Keeps the executor alive: the line above does not.
    private let thread: ConnectionThread
    private let configuration: PostgresConfiguration
    private var session: PostgresSession?

    /// - Throws: where the system gives no more threads.
    package init(_ configuration: PostgresConfiguration) throws(PostgresError) {
        let thread = try ConnectionThread()
        self.thread = thread
        self.unownedExecutor = thread.asUnownedSerialExecutor()
        self.configuration = configuration
    }

    /// Runs `body` with the session, after connecting where there is none.
    /// - Parameter prepare: runs first on each new session.
    package func run<Value: Sendable>(
        prepare: (@Sendable (PostgresSession) throws -> Void)? = nil,
        _ body: @Sendable (PostgresSession) throws -> Value
    ) throws -> Value {
        let session = try self.connected(prepare)
        defer { if session.isDead { self.session = nil } }
        return try body(session)
    }

    package var isConnected: Bool { self.session != nil }

    package func disconnect() { self.session = nil }

    private func connected(_ prepare: (@Sendable (PostgresSession) throws -> Void)?) throws -> PostgresSession {
        if let session { return session }
        let session = try PostgresSession(self.configuration)
        try prepare?(session)
        self.session = session
        return session
    }
}
