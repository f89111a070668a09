package import FanfareCore
package import FanfareEngines
import FanfareModel
package import Logging
import Synchronization

/// Connections for some classes of work: bounded, with a bounded queue before them and one circuit breaker per class. A
/// link that broke is replaced once within a call; everything that is run here may be run twice.
package final class PostgresPool: Sendable {
    private typealias Waiter = CheckedContinuation<Result<Int, EngineError>, Never>

    private struct Mutable {
        var places: PoolState<Waiter>
        var breakers: ClassBreakers
        var problem: String? = "not connected yet"
        /// An answer came since the last failure.
        var isReachable = false
        var nextProbe: MonotonicInstant
        var isProbing = false
        var maintenance: Task<Void, Never>?
        var wasConnected: [Bool]
    }

    /// For metrics and logs.
    package let name: String
    /// The class of what is run here without one: the last.
    private let usual: WorkClass
    private let connections: [PostgresConnection]
    private let configuration: PostgresConfiguration
    private let prepare: @Sendable (PostgresSession) throws -> Void
    private let random: @Sendable () -> UInt64
    private let metrics: PoolMetrics
    /// Told what users waited for: the class, the operation, how long.
    private let answered: @Sendable (WorkClass, String, Duration) -> Void
    private let ticked: @Sendable () -> Void
    private let logger: Logger
    private let state: Mutex<Mutable>

    /// - Parameters:
    ///   - name: for metrics and logs.
    ///   - classes: whose breakers are kept here; not empty.
    ///   - answered: is told how long each call took, its wait for a connection included.
    ///   - tick: runs some times a second, from `start` on.
    ///   - prepare: runs on each new connection before it is used.
    /// - Throws: where the system gives no more threads.
    package init(
        name: String, classes: [WorkClass], connections: Int, configuration: PostgresConfiguration,
        breaker: CircuitBreaker.Configuration, random: @escaping @Sendable () -> UInt64, logger: Logger,
        answered: @escaping @Sendable (WorkClass, String, Duration) -> Void = { _, _, _ in },
        tick: @escaping @Sendable () -> Void = {},
        prepare: @escaping @Sendable (PostgresSession) throws -> Void
    ) throws(PostgresError) {
        var places: [PostgresConnection] = []
        for _ in 0..<max(1, connections) { places.append(try PostgresConnection(configuration)) }
        self.name = name
        self.usual = classes.last ?? .read
        self.connections = places
        self.configuration = configuration
        self.prepare = prepare
        self.random = random
        self.metrics = PoolMetrics(pool: name, classes: classes)
        self.answered = answered
        self.ticked = tick
        self.logger = logger
        self.state = Mutex(
            Mutable(
                places: PoolState(
                    size: places.count, queueLimit: configuration.queueLimit, queueTime: configuration.queueTimeout),
                breakers: ClassBreakers(classes, breaker), nextProbe: Self.now(),
                wasConnected: [Bool](repeating: false, count: places.count)))
    }

    /// Begins to connect, and to look after the connections.
    package func start() {
        self.state.withLock { state in
            guard state.maintenance == nil, !state.places.isStopped else { return }
            state.maintenance = Task.detached { [weak self] in
                while !Task.isCancelled, let pool = self {
                    pool.tick()
                    pool.ticked()
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
            let states = state.breakers.classes.map { ($0.rawValue, state.breakers.state($0).rawValue) }
            return StoreHealth(
                isReachable: state.isReachable && state.breakers.areClosed,
                breakers: Dictionary(uniqueKeysWithValues: states), problem: state.problem)
        }
    }

    // MARK: Running

    /// Runs `body` in a transaction; again where it lost a race (up to five times), or once where the link broke.
    package func transaction<Value: Sendable>(
        _ operation: String, as work: WorkClass? = nil, _ body: @Sendable (PostgresSession) throws -> Value
    ) async throws -> Value {
        let work = work ?? self.usual
        var attempt = 0
        while true {
            do {
                return try await self.run(operation, as: work) { session in
                    try session.transaction { try body(session) }
                }
            } catch let error as PostgresError where error.reaction == .retryTransaction && attempt < 5 {
                self.metrics.retry(operation, work)
                let backoff = Backoff(base: .milliseconds(5), cap: .milliseconds(200))
                try? await Task.sleep(for: backoff.delay(attempt: attempt, random: self.random()))
                attempt += 1
            }
        }
    }

    /// Runs `body` on a connection; once more, on a new one, where the link broke.
    /// - Throws: `EngineError` where no connection could be had, `PostgresError`, and what `body` throws.
    package func run<Value: Sendable>(
        _ operation: String, as work: WorkClass? = nil, _ body: @Sendable (PostgresSession) throws -> Value
    ) async throws -> Value {
        let work = work ?? self.usual
        // Before the queue: nobody waits for a connection that he may not use.
        if let refusal = self.refusal(work, isFinal: false) { throw self.refused(operation, work, refusal) }
        let asked = Self.now()
        let place: Int
        do {
            place = try await self.acquire()
        } catch {
            let waited = Self.now() - asked
            // Who is refused at once has not waited.
            self.metrics.waited(waited, refusal: error, isFull: waited < self.configuration.queueTimeout)
            if self.state.withLock({ $0.isReachable }) {
                self.answered(work, operation, max(waited, self.configuration.queueTimeout))
            }
            throw error
        }
        defer { self.release(place) }
        let start = Self.now()
        self.metrics.waited(start - asked, refusal: nil)
        if let refusal = self.refusal(work, isFinal: true) { throw self.refused(operation, work, refusal) }
        do {
            let value = try await self.attempt(place, operation, work, body)
            self.ended(operation, work, since: start, nil)
            self.answered(work, operation, Self.now() - asked)
            return value
        } catch {
            self.ended(operation, work, since: start, error)
            // A database that is away is the breakers' business: it is not slow.
            if (error as? PostgresError)?.speaksAgainstTheDatabase != true {
                self.answered(work, operation, Self.now() - asked)
            }
            throw error
        }
    }

    private func refused(_ operation: String, _ work: WorkClass, _ refusal: EngineError) -> EngineError {
        self.metrics.request(operation, work, result: "refused", nanoseconds: 0)
        return refusal
    }

    private func attempt<Value: Sendable>(
        _ place: Int, _ operation: String, _ work: WorkClass, _ body: @Sendable (PostgresSession) throws -> Value
    ) async throws -> Value {
        let connection = self.connections[place]
        do {
            return try await connection.run(prepare: { try self.prepared($0, place) }, body)
        } catch let error as PostgresError where error.reaction == .findPrimary {
            // The primary is another one now: the next call looks for it.
            await connection.disconnect()
            throw error
        } catch let error as PostgresError where error.reaction == .reconnect && error.kind != .connect {
            // Old connections die with the server: the first use tells. One that hung is no reason to hang again.
            guard error.kind != .noAnswer else { throw error }
            self.metrics.retry(operation, work)
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

    private func acquire() async throws(EngineError) -> Int {
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

    // MARK: Breakers

    /// What callers are told while the breaker of their class is not closed: when the next probe will have been. Only the
    /// maintenance asks the database then: no user waits for a trial.
    /// - Parameter isFinal: the call follows.
    private func refusal(_ work: WorkClass, isFinal: Bool) -> EngineError? {
        let now = Self.now()
        let (retryAfter, problem): (Duration?, String?) = self.state.withLock { state in
            // Without the maintenance the callers themselves are the probes.
            guard state.maintenance == nil else { return (state.breakers[work].retryAfter(now: now), state.problem) }
            guard isFinal, case .refuse(let retryAfter) = state.breakers[work].allow(now: now) else {
                return (nil, nil)
            }
            return (retryAfter, state.problem)
        }
        guard let retryAfter else { return nil }
        return EngineError(
            .unavailable, "the breaker of \(work.rawValue) is open: \(problem ?? "the database fails")",
            retryAfter: max(retryAfter, .milliseconds(100)))
    }

    private func ended(_ operation: String, _ work: WorkClass, since start: MonotonicInstant, _ error: (any Error)?) {
        // What the caller asked for may be refused: that says nothing against the database.
        let failure = (error as? PostgresError).flatMap { $0.speaksAgainstTheDatabase ? $0 : nil }
        let result = error == nil ? "ok" : failure == nil ? "rejected" : "failed"
        self.metrics.request(operation, work, result: result, nanoseconds: (Self.now() - start).nanoseconds)
        self.tell([work], failure)
    }

    /// Tells the breakers of these classes how a call ended.
    private func tell(_ classes: [WorkClass], _ failure: PostgresError?) {
        let now = Self.now()
        let transitions = self.state.withLock { state in
            if let failure {
                state.isReachable = false
                state.problem = failure.description
                // Whether it was the one connection or all of them is to be known soon.
                state.nextProbe = now
            } else {
                state.isReachable = true
                if state.breakers.classes.allSatisfy({ classes.contains($0) || state.breakers.state($0) == .closed }) {
                    state.problem = nil
                }
            }
            return classes.map { work in
                failure == nil
                    ? state.breakers[work].succeeded(now: now)
                    : state.breakers[work].failed(now: now, random: self.random())
            }
        }
        for (work, transition) in zip(classes, transitions) {
            guard let transition else { continue }
            self.metrics.transition(work, to: transition.to)
            self.logger.notice(
                "database breaker changed",
                metadata: [
                    "class": "\(work.rawValue)", "from": "\(transition.from.rawValue)",
                    "to": "\(transition.to.rawValue)", "open_for_ms": "\(transition.openFor.milliseconds)",
                    "cause": "\(failure?.description ?? "-")",
                ])
        }
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
        if probe.ofBreaker { self.metrics.transition(probe.work, to: .halfOpen) }
        // Apart, so that a probe that hangs does not hold up those who wait.
        Task.detached { [weak self] in await self?.probe(probe) }
    }

    private struct Probe {
        let place: Int
        let work: WorkClass
        /// Its breaker lets this one call through.
        let ofBreaker: Bool
    }

    /// One idle connection at a time is tried, the idlest first: for a breaker that lets a probe through, else to see
    /// whether the database is there.
    private func placeToProbe(_ state: inout Mutable, _ now: MonotonicInstant) -> Probe? {
        self.metrics.connections(
            inFlight: state.places.inUse, waiting: state.places.waiting,
            connected: state.isReachable && state.breakers.areClosed)
        guard !state.isProbing else { return nil }
        let waiting = state.breakers.classes.first { state.breakers[$0].wantsProbe(now: now) }
        guard waiting != nil || now >= state.nextProbe && !state.breakers.areOpen,
            let work = waiting ?? state.breakers.classes.first, let place = state.places.acquireIdlest()
        else { return nil }
        if waiting != nil { _ = state.breakers[work].allow(now: now) }
        state.isProbing = true
        return Probe(place: place, work: work, ofBreaker: waiting != nil)
    }

    private func probe(_ probe: Probe) async {
        var failure: PostgresError?
        let limit = self.configuration.probeTimeout
        let start = Self.now()
        do {
            try await self.attempt(probe.place, "probe", probe.work) { session in
                let usual = session.answerTimeout
                session.answerTimeout = min(usual, limit)
                defer { session.answerTimeout = usual }
                try (probe.ofBreaker ? probe.work : .read).probe(session)
            }
        } catch {
            // Whatever it is: such work does not succeed.
            failure = error as? PostgresError ?? PostgresError(.unexpectedAnswer, "\(error)")
        }
        self.metrics.request(
            "probe", probe.work, result: failure == nil ? "ok" : "failed",
            nanoseconds: (Self.now() - start).nanoseconds)
        let classes = self.state.withLock { $0.breakers.classes }
        if failure == nil, !probe.ofBreaker {
            // That it is there says nothing about work that has failed in between.
            self.tell(classes.filter { $0 == .read || classes.count == 1 }, nil)
        } else if let failure, failure.reaction == .reconnect {
            // Out of reach for all of them.
            self.tell(classes, failure)
        } else {
            self.tell([probe.work], failure)
        }
        self.state.withLock { state in
            state.isProbing = false
            let interval = self.configuration.probeInterval
            state.nextProbe = Self.now() + (failure == nil ? interval : min(interval, .milliseconds(200)))
        }
        self.release(probe.place)
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
