import FanfareEngines
import FanfareModel
import Metrics

/// What operators see of the durable lane.
struct StoreMetrics: Sendable {
    let fenceRejections = Counter(label: "fanfare_fence_rejections_total", dimensions: [("reason", "shard")])
    let deadRows = Counter(label: "fanfare_dead_letters_total", dimensions: [("reason", "row")])
    let deadJobs = Counter(label: "fanfare_dead_letters_total", dimensions: [("reason", "job")])
    let deadOutbox = Counter(label: "fanfare_dead_letters_total", dimensions: [("reason", "outbox")])
    let jobsSetAside = Counter(label: "fanfare_retries_total", dimensions: [("op", "fanout_job")])
    let aheadRows = Counter(label: "fanfare_fanout_ahead_rows_total")
    let aheadFull = Counter(label: "fanfare_fanout_ahead_full_total")
    let activityMarks = Counter(label: "fanfare_activity_marks_total")
    let inboxRows = Counter(label: "fanfare_inbox_rows_total")
    let outboxPending = Gauge(label: "fanfare_outbox_pending")
    let outboxLag = Gauge(label: "fanfare_outbox_lag_seconds")
    let scheduledEvents = Gauge(label: "fanfare_scheduled_events")
    let scheduledLag = Gauge(label: "fanfare_scheduled_events_lag_seconds")
    let schedulesRefused = Counter(label: "fanfare_limits_reached_total", dimensions: [("limit", "scheduled_events")])
    let mutesRefused = Counter(label: "fanfare_limits_reached_total", dimensions: [("limit", "muted_streamers")])
    let openJobs = Gauge(label: "fanfare_fanout_backlog", dimensions: [("stage", "jobs")])
    let deadLetters = Gauge(label: "fanfare_dead_letters")
    let oldestDeadLetter = Gauge(label: "fanfare_dead_letters_oldest_seconds")
    let forgottenDeadLetters = Counter(label: "fanfare_dead_letters_forgotten_total")
    let partitionsDropped = Counter(label: "fanfare_partitions_dropped_total")
    private let replayedDeadLetters = Counter(
        label: "fanfare_dead_letters_settled_total", dimensions: [("as", "replayed")])
    private let discardedDeadLetters = Counter(
        label: "fanfare_dead_letters_settled_total", dimensions: [("as", "discarded")])
    /// Nobody looked after them, and more came than are kept.
    let shedDeadLetters = Counter(label: "fanfare_dead_letters_settled_total", dimensions: [("as", "shed")])

    func partitions(_ log: PartitionedLog, _ partitions: [LogPartition], retention: Duration?) {
        let isOverdue = { (partition: LogPartition) in
            guard let retention, let ended = partition.endedFor else { return false }
            return ended >= retention.milliseconds
        }
        let states: [(name: String, count: Int)] = [
            ("ahead", partitions.count { $0.openFor == nil }),
            ("open", partitions.count { $0.openFor != nil && $0.endedFor == nil }),
            ("closing", partitions.count { $0.endedFor != nil && !$0.isClosed }),
            ("closed", partitions.count { $0.isClosed && !isOverdue($0) }),
            ("overdue", partitions.count { $0.isClosed && isOverdue($0) }),
        ]
        for (state, count) in states {
            Gauge(label: "fanfare_partitions", dimensions: [("log", log.rawValue), ("state", state)]).record(count)
        }
    }

    func settled(_ settlement: DeadLetterSettlement, _ count: Int) {
        switch settlement {
        case .replay: self.replayedDeadLetters.increment(by: count)
        case .discard: self.discardedDeadLetters.increment(by: count)
        }
    }
}
