import FanfareCore
import FanfareEngines
import FanfareModel
import Metrics

/// What is asked of the server, as metrics name it.
enum BrokerOperation: String, CaseIterable, Sendable {
    case heartbeat, leave, claim, open, append, restore, read
    case removeHistory = "remove_history"
    case broadcast, send
    case sendToAll = "send_to_all"
    case probe, handshake

    /// Whether it leaves nothing behind, so that its outcome is never unknown.
    var isRead: Bool { self == .read || self == .probe || self == .handshake }
    var index: Int {
        switch self {
        case .heartbeat: 0
        case .leave: 1
        case .claim: 2
        case .open: 3
        case .append: 4
        case .restore: 5
        case .read: 6
        case .removeHistory: 7
        case .broadcast: 8
        case .send: 9
        case .sendToAll: 10
        case .probe: 11
        case .handshake: 12
        }
    }
}

/// The instruments, made once.
final class RedisMetrics: Sendable {
    private static let results = ["ok", "unavailable", "unknown_outcome", "overloaded", "fenced", "rejected"]
    private static let backend = ("backend", "redis")

    private let requests: [[Counter]]
    private let durations: [Metrics.Timer]
    private let breakerStates: [(CircuitBreaker.State, Gauge)]
    private let breakerTransitions: [(CircuitBreaker.State, Counter)]
    let commandReconnects: Counter
    let subscriptionReconnects: Counter
    let commandConnected: Gauge
    let subscriptionConnected: Gauge
    let inFlight: Gauge

    init() {
        self.requests = BrokerOperation.allCases.map { operation in
            Self.results.map { result in
                Counter(
                    label: "fanfare_broker_requests_total",
                    dimensions: [Self.backend, ("op", operation.rawValue), ("result", result)])
            }
        }
        self.durations = BrokerOperation.allCases.map { operation in
            Metrics.Timer(
                label: "fanfare_broker_request_duration_seconds",
                dimensions: [Self.backend, ("op", operation.rawValue)])
        }
        self.breakerStates = CircuitBreaker.State.allCases.map { state in
            (state, Gauge(label: "fanfare_breaker_state", dimensions: [Self.backend, ("state", state.rawValue)]))
        }
        self.breakerTransitions = CircuitBreaker.State.allCases.map { state in
            let dimensions = [Self.backend, ("to", state.rawValue)]
            return (state, Counter(label: "fanfare_breaker_transitions_total", dimensions: dimensions))
        }
        let commands = [Self.backend, ("link", "commands")]
        let subscriptions = [Self.backend, ("link", "subscriptions")]
        self.commandReconnects = Counter(label: "fanfare_broker_reconnects_total", dimensions: commands)
        self.subscriptionReconnects = Counter(label: "fanfare_broker_reconnects_total", dimensions: subscriptions)
        self.commandConnected = Gauge(label: "fanfare_broker_connected", dimensions: commands)
        self.subscriptionConnected = Gauge(label: "fanfare_broker_connected", dimensions: subscriptions)
        self.inFlight = Gauge(label: "fanfare_broker_inflight", dimensions: [Self.backend])
        self.breaker(.closed)
    }

    func ended(_ operation: BrokerOperation, _ error: EngineError?, after duration: Duration) {
        let result =
            switch error?.code {
            case nil: 0
            case .unavailable: 1
            case .unknownOutcome: 2
            case .overloaded: 3
            case .fenced: 4
            case .rejected: 5
            }
        self.requests[operation.index][result].increment()
        if error == nil { self.durations[operation.index].recordNanoseconds(duration.nanoseconds) }
    }

    func breaker(_ current: CircuitBreaker.State) {
        for (state, gauge) in self.breakerStates { gauge.record(state == current ? 1 : 0) }
    }

    func breakerMoved(to state: CircuitBreaker.State) {
        self.breaker(state)
        for (other, counter) in self.breakerTransitions where other == state { counter.increment() }
    }
}
