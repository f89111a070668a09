import FanfareCore
import FanfareEngines
import FanfareModel
import Metrics

/// What is asked of the server, by what it needs to succeed: each class has a circuit breaker of its own, so that a server
/// without memory for more publications still serves those who read, and carries messages between nodes.
enum BrokerWork: String, CaseIterable, Sendable {
    /// Membership and fences.
    case membership
    /// What changes rooms.
    case write
    case read
    /// What nodes tell each other.
    case messages
}

/// What is asked of the server, as metrics name it.
enum BrokerOperation: String, CaseIterable, Sendable {
    case heartbeat, leave, claim, open, append, restore, read
    case removeHistory = "remove_history"
    case broadcast, send
    case sendToAll = "send_to_all"
    case probe, handshake

    /// Whether it leaves nothing behind, so that its outcome is never unknown.
    var isRead: Bool { self == .read || self == .probe || self == .handshake }
    var work: BrokerWork {
        switch self {
        case .heartbeat, .leave, .claim: .membership
        case .open, .append, .restore, .removeHistory: .write
        case .read: .read
        case .broadcast, .send, .sendToAll, .probe, .handshake: .messages
        }
    }
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
    private let breakerStates: [(BrokerWork, CircuitBreaker.State, Gauge)]
    private let breakerTransitions: [(BrokerWork, CircuitBreaker.State, Counter)]
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
        var states: [(BrokerWork, CircuitBreaker.State, Gauge)] = []
        var transitions: [(BrokerWork, CircuitBreaker.State, Counter)] = []
        for work in BrokerWork.allCases {
            let labels = [Self.backend, ("class", work.rawValue)]
            for state in CircuitBreaker.State.allCases {
                let gauge = Gauge(label: "fanfare_breaker_state", dimensions: labels + [("state", state.rawValue)])
                let counter = Counter(
                    label: "fanfare_breaker_transitions_total", dimensions: labels + [("to", state.rawValue)])
                states.append((work, state, gauge))
                transitions.append((work, state, counter))
            }
        }
        self.breakerStates = states
        self.breakerTransitions = transitions
        let commands = [Self.backend, ("link", "commands")]
        let subscriptions = [Self.backend, ("link", "subscriptions")]
        self.commandReconnects = Counter(label: "fanfare_broker_reconnects_total", dimensions: commands)
        self.subscriptionReconnects = Counter(label: "fanfare_broker_reconnects_total", dimensions: subscriptions)
        self.commandConnected = Gauge(label: "fanfare_broker_connected", dimensions: commands)
        self.subscriptionConnected = Gauge(label: "fanfare_broker_connected", dimensions: subscriptions)
        self.inFlight = Gauge(label: "fanfare_broker_inflight", dimensions: [Self.backend])
        for work in BrokerWork.allCases { self.breaker(work, .closed) }
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

    private func breaker(_ work: BrokerWork, _ current: CircuitBreaker.State) {
        for (other, state, gauge) in self.breakerStates where other == work { gauge.record(state == current ? 1 : 0) }
    }

    func breakerMoved(_ work: BrokerWork, to state: CircuitBreaker.State) {
        self.breaker(work, state)
        for (other, reached, counter) in self.breakerTransitions where other == work && reached == state {
            counter.increment()
        }
    }
}
