import FanfareCore
import FanfareModel
import Metrics
import Synchronization

/// What operators see of one class of work against PostgreSQL.
final class PoolMetrics: Sendable {
    private struct Instruments {
        var counters: [String: Counter] = [:]
        var timers: [String: Timer] = [:]
    }
    private let dimensions: [(String, String)]
    private let instruments = Mutex(Instruments())
    private let states: [(CircuitBreaker.State, Gauge)]
    private let inFlight: Gauge
    private let connected: Gauge

    /// - Parameter work: the class of work: `requests`, `fanout`.
    init(work: String) {
        let dimensions = [("backend", "postgres"), ("class", work)]
        self.dimensions = dimensions
        self.states = CircuitBreaker.State.allCases.map { state in
            (state, Gauge(label: "fanfare_breaker_state", dimensions: dimensions + [("state", state.rawValue)]))
        }
        self.inFlight = Gauge(label: "fanfare_broker_inflight", dimensions: dimensions)
        self.connected = Gauge(label: "fanfare_broker_connected", dimensions: dimensions)
        self.breaker(.closed)
    }

    func request(_ operation: String, result: String, nanoseconds: Int64) {
        self.counter("fanfare_broker_requests_total", [("op", operation), ("result", result)]).increment()
        let timer = self.instruments.withLock { instruments in
            if let timer = instruments.timers[operation] { return timer }
            let timer = Timer(
                label: "fanfare_broker_request_duration_seconds", dimensions: self.dimensions + [("op", operation)])
            instruments.timers[operation] = timer
            return timer
        }
        timer.recordNanoseconds(nanoseconds)
    }

    func retry(_ operation: String) { self.counter("fanfare_retries_total", [("op", operation)]).increment() }

    func reconnected() { self.counter("fanfare_broker_reconnects_total", []).increment() }

    func transition(to state: CircuitBreaker.State) {
        self.counter("fanfare_breaker_transitions_total", [("to", state.rawValue)]).increment()
        self.breaker(state)
    }

    func breaker(_ state: CircuitBreaker.State) {
        for (known, gauge) in self.states { gauge.record(known == state ? 1 : 0) }
    }

    func connections(inFlight: Int, connected: Bool) {
        self.inFlight.record(inFlight)
        self.connected.record(connected ? 1 : 0)
    }

    /// Operations and results are few and fixed: so are the counters.
    private func counter(_ label: String, _ more: [(String, String)]) -> Counter {
        let key = more.reduce(label) { $0 + "\u{0}" + $1.1 }
        return self.instruments.withLock { instruments in
            if let counter = instruments.counters[key] { return counter }
            let counter = Counter(label: label, dimensions: self.dimensions + more)
            instruments.counters[key] = counter
            return counter
        }
    }
}
