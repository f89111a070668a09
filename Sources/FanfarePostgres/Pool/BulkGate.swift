package import FanfareCore
package import FanfareEngines
import FanfareModel
package import Logging
import Metrics
import Synchronization

/// Lets bulk work at the database begin only as fast as those who wait for answers can bear: `ConcurrencyLimit` with
/// those who wait for their turn. Their number and their time are bounded.
package final class BulkGate: Sendable {
    package struct Bounds: Sendable, Hashable {
        /// Callers that may wait for their turn; more are refused as `.overloaded`.
        package var waiting = 64
        /// How long one waits.
        package var time: Duration = .seconds(30)

        package init() {}
    }

    private typealias Continuation = CheckedContinuation<Result<Void, EngineError>, Never>

    private struct Waiter {
        let continuation: Continuation
        let deadline: MonotonicInstant
    }

    private struct Mutable {
        var limit: ConcurrencyLimit
        var waiters: [Waiter] = []
        var isStopped = false
        /// The limit fell below half, and that was told.
        var isTold = false
    }

    private let state: Mutex<Mutable>
    private let bounds: Bounds
    private let logger: Logger
    private let limitGauge = Gauge(label: "fanfare_bulk_limit", dimensions: [("backend", "postgres")])
    private let waitingGauge = Gauge(label: "fanfare_bulk_waiting", dimensions: [("backend", "postgres")])
    private let refused = Counter(label: "fanfare_bulk_refused_total", dimensions: [("backend", "postgres")])

    package init(_ configuration: ConcurrencyLimit.Configuration, bounds: Bounds = Bounds(), logger: Logger) {
        self.state = Mutex(Mutable(limit: ConcurrencyLimit(configuration, now: MonotonicClock.now())))
        self.bounds = bounds
        self.logger = logger
        self.limitGauge.record(configuration.maximum)
    }

    /// How much may be under way; below 1, the share of the time.
    package var limit: Double { self.state.withLock { $0.limit.limit } }
    package var waiting: Int { self.state.withLock { $0.waiters.count } }

    /// Returns when the work may begin. `release` has to follow.
    /// - Throws: `.overloaded` where too many wait, or it took too long; `.unavailable` after the end.
    package func acquire() async throws(EngineError) {
        let result = await withCheckedContinuation { (continuation: Continuation) in
            let now = MonotonicClock.now()
            let answer: Result<Void, EngineError>? = self.state.withLock { state in
                if state.isStopped { return .failure(PoolState<Int>.stopped) }
                if state.waiters.isEmpty, state.limit.admit(now: now) { return .success(()) }
                guard state.waiters.count < self.bounds.waiting else {
                    return .failure(
                        EngineError(
                            .overloaded, "\(state.waiters.count) pieces of bulk work wait already",
                            retryAfter: .seconds(1)))
                }
                state.waiters.append(Waiter(continuation: continuation, deadline: now + self.bounds.time))
                return nil
            }
            if case .failure = answer { self.refused.increment() }
            if let answer { continuation.resume(returning: answer) }
        }
        try result.get()
    }

    /// - Parameter worked: how long it took since `acquire` returned.
    package func release(after worked: Duration) {
        self.admitWaiters { state, now in state.limit.finished(after: worked, now: now) }
    }

    /// An answer that a user waited for took so long.
    func answered(_ operation: String, after latency: Duration) {
        let move = self.state.withLock { $0.limit.answered(operation, after: latency, now: MonotonicClock.now()) }
        self.tell(move)
    }

    /// Ends rests and waits that are over. To be called some times a second.
    package func tick() {
        var move = ConcurrencyLimit.Move.stayed
        self.admitWaiters { state, now in move = state.limit.passed(now: now) }
        self.tell(move)
    }

    package func stop() {
        let waiters = self.state.withLock { state in
            state.isStopped = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.continuation.resume(returning: .failure(PoolState<Int>.stopped)) }
    }

    private func admitWaiters(_ change: (inout Mutable, MonotonicInstant) -> Void) {
        let now = MonotonicClock.now()
        let (admitted, late, left) = self.state.withLock { state in
            change(&state, now)
            // They are in the order of their deadlines.
            let late = state.waiters.prefix { $0.deadline <= now }
            state.waiters.removeFirst(late.count)
            var admitted: [Waiter] = []
            while !state.waiters.isEmpty, state.limit.admit(now: now) { admitted.append(state.waiters.removeFirst()) }
            return (admitted, Array(late), state.waiters.count)
        }
        self.waitingGauge.record(left)
        for waiter in admitted { waiter.continuation.resume(returning: .success(())) }
        guard !late.isEmpty else { return }
        self.refused.increment(by: late.count)
        let error = EngineError(
            .overloaded, "the database is slow: bulk work had no turn within \(self.bounds.time)",
            retryAfter: .seconds(1))
        for waiter in late { waiter.continuation.resume(returning: .failure(error)) }
    }

    private func tell(_ move: ConcurrencyLimit.Move) {
        guard move != .stayed else { return }
        let (limit, news): (Double, Bool?) = self.state.withLock { state in
            let (limit, maximum) = (state.limit.limit, state.limit.configuration.maximum)
            if !state.isTold, limit < maximum / 2 {
                state.isTold = true
                return (limit, true)
            }
            if state.isTold, limit >= maximum {
                state.isTold = false
                return (limit, false)
            }
            return (limit, nil)
        }
        self.limitGauge.record(limit)
        guard let news else { return }
        self.logger.notice(
            news ? "the database answers slowly: the fan-out gives way" : "the database answers well again",
            metadata: ["limit": "\(limit)"])
    }
}
