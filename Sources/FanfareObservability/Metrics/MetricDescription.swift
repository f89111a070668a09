/// A metric's help text and, for histograms, its buckets.
struct MetricDescription: Sendable {
    var help: String
    var bounds: HistogramBounds?

    init(_ help: String, bounds: HistogramBounds? = nil) {
        self.help = help
        self.bounds = bounds
    }

    /// The metrics of a node.
    static let known: [String: MetricDescription] = [
        "fanfare_build_info": .init("Always 1; the labels tell the version."),
        "fanfare_metrics_dropped_series_total": .init("Series folded into `other` by the registry's limits."),
        "fanfare_metrics_type_clashes_total": .init("Metrics not shown because their name had another type."),
        "fanfare_connections": .init("Open client connections."),
        "fanfare_connections_opened_total": .init("Client connections opened."),
        "fanfare_connections_closed_total": .init("Client connections closed, by reason."),
        "fanfare_connection_rejects_total": .init("Connections refused before they were upgraded."),
        "fanfare_sessions": .init("Client sessions on this node."),
        "fanfare_users": .init("Users with a session on this node."),
        "fanfare_rooms": .init("Channels with a subscriber on this node."),
        "fanfare_subscriptions": .init("Subscriptions on this node."),
        "fanfare_commands_total": .init("Client commands, by method and result."),
        "fanfare_command_duration_seconds": .init("Time from a client's command to its reply.", bounds: .io),
        "fanfare_publications_total": .init("Publications accepted."),
        "fanfare_deliveries_total": .init("Publications handed to client connections."),
        "fanfare_delivery_bytes_total": .init("Bytes handed to client connections."),
        "fanfare_delivery_duration_seconds": .init("Time from a publication's acceptance to its write.", bounds: .io),
        "fanfare_fanout_recipients": .init("Recipients of a publication on this node.", bounds: .counts),
        "fanfare_fanout_backlog": .init("Recipients that wait for their inbox row or push."),
        "fanfare_fanout_oldest_timestamp_seconds": .init("When the oldest waiting fan-out work was accepted."),
        "fanfare_send_queue_bytes": .init("Bytes queued for client connections."),
        "fanfare_send_queue_max_bytes": .init("The longest queue of one client connection."),
        "fanfare_slow_consumer_disconnects_total": .init("Connections cut because they did not read."),
        "fanfare_coalesced_total": .init("Ephemeral messages replaced by newer ones."),
        "fanfare_dropped_total": .init("Ephemeral messages dropped by rule."),
        "fanfare_recoveries_total": .init("Recoveries of subscriptions, by result."),
        "fanfare_presence_entries": .init("Presence entries kept on this node."),
        "fanfare_broker_requests_total": .init("Requests to engines."),
        "fanfare_broker_request_duration_seconds": .init("Time that requests to engines took.", bounds: .io),
        "fanfare_broker_connected": .init("1 while the link to the engine is up."),
        "fanfare_broker_reconnects_total": .init("Reconnects to engines."),
        "fanfare_broker_inflight": .init("Requests to engines under way."),
        "fanfare_breaker_state": .init("1 for the state that the circuit breaker is in."),
        "fanfare_breaker_transitions_total": .init("Changes of circuit breakers."),
        "fanfare_epoch_resets_total": .init("Rooms that had to begin a new epoch."),
        "fanfare_fence_rejections_total": .init("Writes refused because another node owns the slot."),
        "fanfare_outbox_pending": .init("Events that wait for their fan-out jobs."),
        "fanfare_outbox_lag_seconds": .init("Age of the oldest waiting event."),
        "fanfare_dead_letters": .init("Work that failed for good and waits for an operator."),
        "fanfare_dead_letters_total": .init("Work that failed for good."),
        "fanfare_retries_total": .init("Retries, by operation."),
        "fanfare_cluster_view": .init("Number of the membership view; equal on all nodes."),
        "fanfare_cluster_members": .init("Members of the cluster, by state."),
        "fanfare_slots_owned": .init("Slots that this node owns."),
        "fanfare_slot_moves_total": .init("Slots that changed their owner to or from this node."),
        "fanfare_event_loop_lag_seconds": .init("How late the ticks of the loops come.", bounds: .loopLag),
        "fanfare_auth_failures_total": .init("Tokens and keys that were refused."),
        "fanfare_rate_limited_total": .init("Requests refused by a rate limit."),
        "fanfare_log_dropped_total": .init("Log lines dropped because their reader was slow."),
        "fanfare_otlp_spans_total": .init("Spans, by what became of them."),
        "process_cpu_seconds_total": .init("User and system time used by the process."),
        "process_resident_memory_bytes": .init("Resident memory."),
        "process_virtual_memory_bytes": .init("Virtual memory."),
        "process_open_fds": .init("Open file descriptors."),
        "process_max_fds": .init("The most file descriptors that may be open."),
        "process_start_time_seconds": .init("When the process started, in seconds since 1970."),
        "process_threads": .init("Threads of the process."),
    ]
}
