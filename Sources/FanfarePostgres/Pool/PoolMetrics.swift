import FanfareCore
import FanfareEngines
import FanfareModel
import Metrics
import Synchronization

/// What operators see of one class of work against PostgreSQL.
final class PoolMetrics: Sendable {
    private struct Instruments {
        var counters: [String: Counter] = [:]
        var timers: [String: Timer] = [:]
    }
    private let pool: (String, String)
    private let instruments = Mutex(Instruments())
    private let states: [WorkClass: [(CircuitBreaker.State, Gauge)]]
    private let inFlight: Gauge
    private let waiting: Gauge
    private let connected: Gauge
    private let waits: Timer
    private let full: Counter
    private let late: Counter
    private static let backend = ("backend", "postgres")

    /// - Parameter pool: `requests`, `fanout`.
    init(pool: String, classes: [WorkClass]) {
        self.pool = ("class", pool)
        let dimensions = [Self.backend, self.pool]
        self.states = Dictionary(
            uniqueKeysWithValues: classes.map { work in
                let states = CircuitBreaker.State.allCases.map { state in
                    let labels = [Self.backend, ("class", work.rawValue), ("state", state.rawValue)]
                    return (state, Gauge(label: "fanfare_breaker_state", dimensions: labels))
                }
                return (work, states)
            })
        self.inFlight = Gauge(label: "fanfare_broker_inflight", dimensions: dimensions)
        self.connected = Gauge(label: "fanfare_broker_connected", dimensions: dimensions)
        self.waiting = Gauge(label: "fanfare_pool_waiting", dimensions: dimensions)
        self.waits = Timer(label: "fanfare_pool_wait_seconds", dimensions: dimensions)
        self.full = Counter(label: "fanfare_pool_refused_total", dimensions: dimensions + [("reason", "full")])
        self.late = Counter(label: "fanfare_pool_refused_total", dimensions: dimensions + [("reason", "late")])
        for work in classes { self.breaker(work, .closed) }
    }

    func request(_ operation: String, _ work: WorkClass, result: String, nanoseconds: Int64) {
        self.counter("fanfare_broker_requests_total", work, [("op", operation), ("result", result)]).increment()
        let key = work.rawValue + "\u{0}" + operation
        let timer = self.instruments.withLock { instruments in
            if let timer = instruments.timers[key] { return timer }
            let timer = Timer(
                label: "fanfare_broker_request_duration_seconds",
                dimensions: [Self.backend, ("class", work.rawValue), ("op", operation)])
            instruments.timers[key] = timer
            return timer
        }
        timer.recordNanoseconds(nanoseconds)
    }

    func retry(_ operation: String, _ work: WorkClass) {
        self.counter("fanfare_retries_total", work, [("op", operation)]).increment()
    }

    func reconnected() {
        self.counter("fanfare_broker_reconnects_total", nil, []).increment()
    }

    func transition(_ work: WorkClass, to state: CircuitBreaker.State) {
        self.counter("fanfare_breaker_transitions_total", work, [("to", state.rawValue)]).increment()
        self.breaker(work, state)
    }

    private func breaker(_ work: WorkClass, _ state: CircuitBreaker.State) {
        for (known, gauge) in self.states[work] ?? [] { gauge.record(known == state ? 1 : 0) }
    }

    func connections(inFlight: Int, waiting: Int, connected: Bool) {
        self.inFlight.record(inFlight)
        self.waiting.record(waiting)
        self.connected.record(connected ? 1 : 0)
    }

    /// Somebody waited for a connection, in vain where there is a refusal.
    func waited(_ time: Duration, refusal: EngineError?, isFull: Bool = false) {
        self.waits.recordNanoseconds(time.nanoseconds)
        guard let refusal, refusal.code == .overloaded else { return }
        (isFull ? self.full : self.late).increment()
    }

    /// Operations and results are few and fixed: so are the counters.
    private func counter(_ label: String, _ work: WorkClass?, _ more: [(String, String)]) -> Counter {
        let dimensions = [Self.backend, work.map { ("class", $0.rawValue) } ?? self.pool] + more
        let key = dimensions.reduce(label) { $0 + "\u{0}" + $1.1 }
        return self.instruments.withLock { instruments in
            if let counter = instruments.counters[key] { return counter }
            let counter = Counter(label: label, dimensions: dimensions)
            instruments.counters[key] = counter
            return counter
        }
    }
}
