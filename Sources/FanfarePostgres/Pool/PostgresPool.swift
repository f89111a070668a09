package import FanfareCore
package import FanfareEngines
import FanfareModel
package import Logging
import Synchronization

/// The connections of one class of work: bounded, with a bounded queue before them and one circuit breaker. A link that
/// broke is replaced once within a call; everything that is run here may be run twice.
package final class PostgresPool: Sendable {
    private typealias Waiter = CheckedContinuation<Result<Int, EngineError>, Never>

    private struct Mutable {
        var places: PoolState<Waiter>
        var breaker: CircuitBreaker
        var problem: String? = "not connected yet"
        /// An answer came since the last failure.
        var isReachable = false
        var nextProbe: MonotonicInstant
        var isProbing = false
        var maintenance: Task<Void, Never>?
        var wasConnected: [Bool]
    }

    package let work: String
    private let connections: [PostgresConnection]
    private let configuration: PostgresConfiguration
    private let prepare: @Sendable (PostgresSession) throws -> Void
    private let random: @Sendable () -> UInt64
    private let metrics: PoolMetrics
    private let logger: Logger
    private let state: Mutex<Mutable>

    /// - Parameters:
    ///   - work: the class of work, for metrics and logs.
    ///   - prepare: runs on each new connection before it is used.
    /// - Throws: where the system gives no more threads.
    package init(
        work: String, connections: Int, configuration: PostgresConfiguration, breaker: CircuitBreaker.Configuration,
        random: @escaping @Sendable () -> UInt64, logger: Logger,
        prepare: @escaping @Sendable (PostgresSession) throws -> Void
    ) throws(PostgresError) {
        var places: [PostgresConnection] = []
        for _ in 0..<max(1, connections) { places.append(try PostgresConnection(configuration)) }
        self.work = work
        self.connections = places
        self.configuration = configuration
        self.prepare = prepare
        self.random = random
        self.metrics = PoolMetrics(work: work)
        self.logger = logger
        self.state = Mutex(
            Mutable(
                places: PoolState(
                    size: places.count, queueLimit: configuration.queueLimit, queueTime: configuration.queueTimeout),
                breaker: CircuitBreaker(breaker), nextProbe: Self.now(),
                wasConnected: [Bool](repeating: false, count: places.count)))
    }

    /// Begins to connect, and to look after the connections.
    package func start() {
        self.state.withLock { state in
            guard state.maintenance == nil, !state.places.isStopped else { return }
            state.maintenance = Task.detached { [weak self] in
                while !Task.isCancelled, let pool = self {
                    pool.tick()
                    // Resolution of the queue's time limit and of the probes.
                    try? await Task.sleep(for: .milliseconds(50))
                }
            }
        }
    }

    package func stop() async {
        let (waiters, maintenance) = self.state.withLock { state in (state.places.stop(), state.maintenance) }
        maintenance?.cancel()
        for waiter in waiters { waiter.resume(returning: .failure(PoolState<Waiter>.stopped)) }
        for connection in self.connections { await connection.disconnect() }
    }

    package var health: StoreHealth {
        self.state.withLock { state in
            StoreHealth(
                isReachable: state.isReachable && state.breaker.state == .closed,
                breaker: state.breaker.state.rawValue, problem: state.problem)
        }
    }

    // MARK: Running

    /// Runs `body` in a transaction; again where it lost a race (up to five times), or once where the link broke.
    package func transaction<Value: Sendable>(
        _ operation: String, _ body: @Sendable (PostgresSession) throws -> Value
    ) async throws -> Value {
        var attempt = 0
        while true {
            do {
                return try await self.run(operation) { session in try session.transaction { try body(session) } }
            } catch let error as PostgresError where error.reaction == .retryTransaction && attempt < 5 {
                self.metrics.retry(operation)
                let backoff = Backoff(base: .milliseconds(5), cap: .milliseconds(200))
                try? await Task.sleep(for: backoff.delay(attempt: attempt, random: self.random()))
                attempt += 1
            }
        }
    }

    /// Runs `body` on a connection; once more, on a new one, where the link broke.
    /// - Throws: `EngineError` where no connection could be had, `PostgresError`, and what `body` throws.
    package func run<Value: Sendable>(
        _ operation: String, _ body: @Sendable (PostgresSession) throws -> Value
    ) async throws -> Value {
        let place = try await self.acquire()
        defer { self.release(place) }
        if let refusal = self.refusal() {
            self.metrics.request(operation, result: "refused", nanoseconds: 0)
            throw refusal
        }
        let start = Self.now()
        do {
            let value = try await self.attempt(place, operation, body)
            self.ended(operation, since: start, nil)
            return value
        } catch {
            self.ended(operation, since: start, error)
            throw error
        }
    }

    private func attempt<Value: Sendable>(
        _ place: Int, _ operation: String, _ body: @Sendable (PostgresSession) throws -> Value
    ) async throws -> Value {
        let connection = self.connections[place]
        do {
            return try await connection.run(prepare: { try self.prepared($0, place) }, body)
        } catch let error as PostgresError where error.reaction == .reconnect && error.kind != .connect {
            // Old connections die with the server: the first use tells. One that hung is no reason to hang again.
            guard error.kind != .noAnswer else { throw error }
            self.metrics.retry(operation)
            do {
                return try await connection.run(prepare: { try self.prepared($0, place) }, body)
            } catch var again as PostgresError {
                again.mayHaveCommitted = again.mayHaveCommitted || error.mayHaveCommitted
                throw again
            }
        }
    }

    private func prepared(_ session: PostgresSession, _ place: Int) throws {
        let isAgain = self.state.withLock { state in
            defer { state.wasConnected[place] = true }
            return state.wasConnected[place]
        }
        if isAgain { self.metrics.reconnected() }
        try self.prepare(session)
    }

    // MARK: Places

    private func acquire() async throws -> Int {
        let result = await withCheckedContinuation { (continuation: Waiter) in
            let outcome = self.state.withLock { $0.places.acquire(continuation, now: Self.now()) }
            switch outcome {
            case .place(let place): continuation.resume(returning: .success(place))
            case .refuse(let error): continuation.resume(returning: .failure(error))
            case .wait: break
            }
        }
        return try result.get()
    }

    private func release(_ place: Int) {
        let (waiter, isStopped) = self.state.withLock { state in (state.places.release(place), state.places.isStopped) }
        waiter?.resume(returning: .success(place))
        if isStopped {
            let connection = self.connections[place]
            Task { await connection.disconnect() }
        }
    }

    // MARK: Breaker

    /// What callers are told while the breaker is not closed.
    private static let retryTime: Duration = .milliseconds(500)

    /// While the breaker is not closed only the maintenance asks the database: no user waits for a trial.
    private func refusal(ofProbe isProbe: Bool = false) -> EngineError? {
        let (decision, problem): (CircuitBreaker.Decision, String?) = self.state.withLock { state in
            guard isProbe || state.maintenance == nil || state.breaker.state == .closed else {
                return (.refuse(retryAfter: Self.retryTime), state.problem)
            }
            return (state.breaker.allow(now: Self.now()), state.problem)
        }
        switch decision {
        case .proceed: return nil
        case .probe:
            self.metrics.transition(to: .halfOpen)
            return nil
        case .refuse(let retryAfter):
            return EngineError(
                .unavailable, "the breaker is open: \(problem ?? "the database fails")", retryAfter: retryAfter)
        }
    }

    private func ended(_ operation: String, since start: MonotonicInstant, _ error: (any Error)?) {
        let now = Self.now()
        // What the caller asked for may be refused: that says nothing against the database.
        let failure = (error as? PostgresError).flatMap { $0.speaksAgainstTheDatabase ? $0 : nil }
        let transition = self.state.withLock { state in
            if let failure {
                state.isReachable = false
                state.problem = failure.description
                // Whether it was the one connection or all of them is to be known soon.
                state.nextProbe = now
                return state.breaker.failed(now: now, random: self.random())
            }
            state.isReachable = true
            state.problem = nil
            return state.breaker.succeeded(now: now)
        }
        let result = error == nil ? "ok" : failure == nil ? "rejected" : "failed"
        self.metrics.request(operation, result: result, nanoseconds: (now - start).nanoseconds)
        guard let transition else { return }
        self.metrics.transition(to: transition.to)
        self.logger.notice(
            "database breaker changed",
            metadata: [
                "class": "\(self.work)", "from": "\(transition.from.rawValue)", "to": "\(transition.to.rawValue)",
                "open_for_ms": "\(transition.openFor.milliseconds)", "cause": "\(failure?.description ?? "-")",
            ])
    }

    // MARK: Maintenance

    private func tick() {
        let now = Self.now()
        let queueTime = self.configuration.queueTimeout
        let (expired, probe) = self.state.withLock { state in
            (state.places.expire(now: now), self.placeToProbe(&state, now))
        }
        for waiter in expired {
            waiter.resume(
                returning: .failure(
                    EngineError(
                        .overloaded, "no database connection became free within \(queueTime)", retryAfter: queueTime)))
        }
        guard let probe else { return }
        // Apart, so that a probe that hangs does not hold up those who wait.
        Task.detached { [weak self] in await self?.probe(probe) }
    }

    /// One idle connection at a time is tried, the idlest first; while the breaker is open, as soon as it lets a probe
    /// through.
    private func placeToProbe(_ state: inout Mutable, _ now: MonotonicInstant) -> Int? {
        self.metrics.connections(
            inFlight: state.places.inUse, connected: state.isReachable && state.breaker.state == .closed)
        guard !state.isProbing, state.breaker.state != .closed || now >= state.nextProbe,
            let place = state.places.acquireIdlest()
        else { return nil }
        state.isProbing = true
        return place
    }

    private func probe(_ place: Int) async {
        if self.refusal(ofProbe: true) == nil {
            let start = Self.now()
            do {
                let limit = self.configuration.probeTimeout
                try await self.attempt(place, "probe") { session in
                    let usual = session.answerTimeout
                    session.answerTimeout = min(usual, limit)
                    defer { session.answerTimeout = usual }
                    _ = try session.query("SELECT 1")
                }
                self.ended("probe", since: start, nil)
            } catch {
                self.ended("probe", since: start, error)
            }
        }
        self.state.withLock { state in
            state.isProbing = false
            state.nextProbe = Self.now() + self.configuration.probeInterval
        }
        self.release(place)
    }

    private static func now() -> MonotonicInstant { MonotonicClock.now() }
}

extension PostgresError {
    /// Whether it tells of the database's health rather than of what was asked.
    var speaksAgainstTheDatabase: Bool {
        switch self.reaction {
        case .reconnect, .backOff, .findPrimary: true
        case .retryTransaction, .retryLater, .rejectData, .rejectStatement: false
        }
    }
}
