internal import FanfareLoops
internal import FanfareModel
internal import Metrics

/// What operators see of the connections.
package final class GatewayMetrics: Sendable {
    package init() {}

    enum Refusal: String, CaseIterable {
        case full
        case tooOften = "rate"
        case outOfDescriptors = "descriptors"
        case badRequest = "bad_request"
        case origin
        case pendingFull = "pending"
        case httpFull = "http"
    }

    private let accepted = Counter(label: "fanfare_connections_accepted_total")
    private let opened = Counter(label: "fanfare_websocket_connections_total")
    private let open = Gauge(label: "fanfare_websocket_connections")
    private let pending = Gauge(label: "fanfare_connections_pending")
    private let http = Gauge(label: "fanfare_http_connections")
    private let refused: [Refusal: Counter] = Dictionary(
        uniqueKeysWithValues: Refusal.allCases.map {
            ($0, Counter(label: "fanfare_connections_refused_total", dimensions: [("reason", $0.rawValue)]))
        })
    private let sends = Counter(label: "fanfare_websocket_sends_total")
    private let bytesSent = Counter(label: "fanfare_websocket_sent_bytes_total")
    private let bytesReceived = Counter(label: "fanfare_websocket_received_bytes_total")
    private let messagesReceived = Counter(label: "fanfare_websocket_received_messages_total")

    func countAccepted() { self.accepted.increment() }
    func countOpened() { self.opened.increment() }
    func count(_ refusal: Refusal) { self.refused[refusal]?.increment() }
    /// - Parameter code: the close code that the server sent.
    func countClosed(code: UInt16) {
        Counter(label: "fanfare_websocket_closed_total", dimensions: [("code", String(code))]).increment()
    }

    func report(_ admission: Admission) {
        self.open.record(admission.openConnections)
        self.pending.record(admission.pendingConnections)
        self.http.record(admission.httpConnections)
    }

    func report(_ traffic: LoopContext.Traffic, of loop: EdgeLoop) {
        self.sends.increment(by: traffic.sends)
        self.bytesSent.increment(by: traffic.bytesSent)
        self.bytesReceived.increment(by: traffic.bytesReceived)
        self.messagesReceived.increment(by: traffic.messagesReceived)
        let statistics = loop.takeStatistics()
        let dimensions = [("loop", loop.name)]
        Gauge(label: "fanfare_loop_lag_seconds", dimensions: dimensions)
            .record(statistics.longestTurn.secondsAsDouble)
        Counter(label: "fanfare_loop_busy_milliseconds_total", dimensions: dimensions)
            .increment(by: statistics.busy.milliseconds)
        Counter(label: "fanfare_loop_turns_total", dimensions: dimensions).increment(by: statistics.turns)
        Counter(label: "fanfare_loop_jobs_total", dimensions: dimensions).increment(by: statistics.jobs)
        Counter(label: "fanfare_loop_wakeups_total", dimensions: dimensions).increment(by: statistics.wakeUps)
    }
}
