package import FanfareCore
package import FanfareEngines
import FanfareModel
package import Logging
import Synchronization

/// The store on PostgreSQL. Two pools, one for what users wait for and one for the fan-out; a breaker for each class of
/// work; and a gate that lets the fan-out's bulk through as fast as the readers can bear.
///
/// Every unit of work is one transaction that may be run twice: after a lost link, above all after a COMMIT whose answer
/// was lost, it is simply run again and finds its own idempotency row, cursor or state.
package final class PostgresStore: Store {
    let configuration: PostgresConfiguration
    let requests: PostgresPool
    let fanout: PostgresPool
    /// Before the fan-out's bulk work: see `bulk`.
    package let gate: BulkGate
    let random: @Sendable () -> UInt64
    let logger: Logger
    let metrics = StoreMetrics()
    let timeZones = TimeZones()
    /// For what may take long and must not hold the fan-out up.
    let upkeep: PostgresConnection
    let schema: SchemaGate
    let isTending = Mutex(false)
    /// When the store last looked after itself.
    let maintained = Mutex<MonotonicInstant?>(nil)

    /// - Parameter random: 64 random bits.
    /// - Throws: `.overloaded` where the system gives no more threads.
    package init(
        _ configuration: PostgresConfiguration,
        breaker: CircuitBreaker.Configuration = .init(consecutiveFailures: 3, maximumOpenTime: .seconds(3)),
        random: @escaping @Sendable () -> UInt64 = { UInt64.random(in: .min ... .max) },
        logger: Logger = Logger(label: "fanfare.store")
    ) throws(EngineError) {
        self.configuration = configuration
        self.random = random
        self.logger = logger
        var forRequests = configuration
        forRequests.statementTimeout = min(configuration.statementTimeout, configuration.requestTimeout)
        var limit = configuration.bulkLimit
        limit.maximum = Double(max(1, configuration.fanoutConnections))
        let gate = BulkGate(limit, logger: logger)
        self.gate = gate
        let minds = configuration.bulkGivesWay
        let schema = SchemaGate(migrates: configuration.migrates, logger: logger)
        self.schema = schema
        do {
            self.upkeep = try PostgresConnection(configuration)
            self.requests = try PostgresPool(
                name: "requests", classes: [.read, .write], connections: configuration.requestConnections,
                configuration: forRequests, breaker: breaker, random: random, logger: logger,
                answered: { work, operation, time in
                    if minds, work == .read { gate.answered(operation, after: time) }
                }, tick: { gate.tick() }, prepare: { try schema.pass($0) })
            self.fanout = try PostgresPool(
                name: "fanout", classes: [.fanout], connections: configuration.fanoutConnections,
                configuration: configuration, breaker: breaker, random: random, logger: logger,
                prepare: { try schema.pass($0) })
        } catch {
            throw EngineError(.overloaded, error.message)
        }
    }

    /// Begins to connect, and to try again where the database is away. Returns at once.
    package func start() {
        self.requests.start()
        self.fanout.start()
    }

    /// Closes the connections, after what runs on them has ended.
    package func stop() async {
        self.gate.stop()
        await self.requests.stop()
        await self.fanout.stop()
        // What it is at ends with the process, or is done again.
        if !self.isTending.withLock({ $0 }) { await self.upkeep.disconnect() }
    }

    /// Brings the schema up to date, on a connection of its own.
    /// - Returns: the steps applied now.
    package static func migrate(_ configuration: PostgresConfiguration) async throws(EngineError) -> [AppliedMigration]
    {
        do {
            return try await PostgresConnection(configuration).run { session in try Migrator.migrate(session) }
        } catch {
            throw PostgresStore.engineError(error)
        }
    }

    /// Both pools together: the worse of each.
    package var health: StoreHealth {
        let (requests, fanout) = (self.requests.health, self.fanout.health)
        return StoreHealth(
            isReachable: requests.isReachable && fanout.isReachable,
            breakers: requests.breakers.merging(fanout.breakers) { first, _ in first },
            problem: requests.problem ?? fanout.problem)
    }

    // MARK: Ways to the database

    /// One transaction that a user waits for.
    func request<Value: Sendable>(
        _ operation: String, _ body: @Sendable (PostgresSession) throws -> Value
    ) async throws(FanfareError) -> Value {
        do {
            return try await self.requests.transaction(operation, as: .write, body)
        } catch { throw self.fanfareError(error) }
    }

    /// Single statements that a user waits for and that may change something.
    func statements<Value: Sendable>(
        _ operation: String, _ body: @Sendable (PostgresSession) throws -> Value
    ) async throws(FanfareError) -> Value {
        do {
            return try await self.requests.run(operation, as: .write, body)
        } catch { throw self.fanfareError(error) }
    }

    /// Single statements that a user waits for and that change nothing.
    func read<Value: Sendable>(
        _ operation: String, _ body: @Sendable (PostgresSession) throws -> Value
    ) async throws(FanfareError) -> Value {
        do {
            return try await self.requests.run(operation, as: .read, body)
        } catch { throw self.fanfareError(error) }
    }

    /// One transaction of the fan-out.
    func work<Value: Sendable>(
        _ operation: String, _ body: @Sendable (PostgresSession) throws -> Value
    ) async throws(EngineError) -> Value {
        do {
            return try await self.fanout.transaction(operation, as: .fanout, body)
        } catch {
            throw PostgresStore.engineError(error)
        }
    }

    /// Bulk work of the fan-out, transactions of its own included: waits for its turn where the database is so slow that
    /// readers feel it.
    /// - Throws: `.overloaded` where it got no turn, and what `body` throws.
    package func bulk<Value: Sendable>(
        _ operation: String, _ body: @Sendable (PostgresSession) throws -> Value
    ) async throws -> Value {
        try await self.gate.acquire()
        let start = MonotonicClock.now()
        do {
            let value = try await self.fanout.run(operation, as: .fanout, body)
            self.gate.release(after: MonotonicClock.now() - start)
            return value
        } catch {
            // What waited for an answer in vain was no load to rest from.
            self.gate.release(after: .zero)
            throw error
        }
    }

    static func engineError(_ error: any Error) -> EngineError {
        switch error {
        case let error as EngineError: error
        case let error as PostgresError: error.engineError
        case let error as FanfareError: EngineError(.rejected, error.description)
        default: EngineError(.rejected, "unexpected: \(error)")
        }
    }

    private func fanfareError(_ error: any Error) -> FanfareError {
        if let error = error as? FanfareError { return error }
        let engine = PostgresStore.engineError(error)
        switch engine.code {
        case .unavailable, .unknownOutcome, .overloaded:
            var unavailable = FanfareError.databaseUnavailable
            unavailable.retryAfterMilliseconds = max(1, engine.retryAfter?.milliseconds ?? 1000)
            return unavailable
        case .fenced, .rejected:
            // 22021: a NUL character; 22P05 and the like: text that PostgreSQL cannot hold.
            if engine.sqlState?.hasPrefix("22") == true { return .badRequest("text that cannot be stored") }
            self.logger.error("database refused a request", metadata: ["error": "\(engine)"])
            return .internal
        }
    }
}

/// Lets a connection through once the schema is this program's.
final class SchemaGate: Sendable {
    private let migrates: Bool
    private let logger: Logger
    private let isOpen = Mutex(false)

    init(migrates: Bool, logger: Logger) {
        self.migrates = migrates
        self.logger = logger
    }

    func pass(_ session: PostgresSession) throws {
        if self.isOpen.withLock({ $0 }) { return }
        do {
            if self.migrates {
                for step in try Migrator.migrate(session) {
                    self.logger.notice(
                        "schema step applied", metadata: ["number": "\(step.number)", "name": "\(step.name)"])
                }
            } else {
                try Migrator.check(session)
            }
        } catch let error as PostgresError where error.reaction == .rejectStatement {
            // To its callers a database that does not fit is one that cannot be had.
            throw PostgresError(.connect, error.description)
        }
        self.isOpen.withLock { $0 = true }
    }
}
