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
        // Connections.
        "fanfare_connections": .init("Client connections that are open."),
        "fanfare_connections_accepted_total": .init("TCP connections accepted."),
        "fanfare_connections_pending": .init("Connections whose first request is not complete yet."),
        "fanfare_connections_refused_total": .init("Connections refused, by reason."),
        "fanfare_http_connections": .init("HTTP connections that are open."),
        "fanfare_websocket_connections": .init("WebSocket connections that are open."),
        "fanfare_websocket_connections_total": .init("WebSocket connections opened."),
        "fanfare_websocket_closed_total": .init("WebSocket connections that the node closed, by code."),
        "fanfare_websocket_received_bytes_total": .init("Bytes received from WebSocket clients."),
        "fanfare_websocket_received_messages_total": .init("Messages received from WebSocket clients."),
        "fanfare_websocket_sends_total": .init("Writes to the sockets of WebSocket clients."),
        "fanfare_websocket_sent_bytes_total": .init("Bytes written to WebSocket clients."),
        // Sessions.
        "fanfare_sessions": .init("Client sessions on this node."),
        "fanfare_sessions_opened_total": .init("Client sessions opened."),
        "fanfare_disconnects_total": .init("Sessions that the node ended, by code."),
        "fanfare_commands_total": .init("Client commands."),
        "fanfare_commands_refused_total": .init("Client commands answered with an error."),
        "fanfare_auth_failures_total": .init("Tokens that were refused."),
        "fanfare_api_requests_total": .init("Requests to the server API, by method and error code; code 0: done."),
        // Rooms.
        "fanfare_owned_rooms": .init("Rooms open on this node as their owner."),
        "fanfare_owned_rooms_refused_total": .init("Rooms that were not opened because too many are."),
        "fanfare_rooms": .init("Channels with a subscriber on this node."),
        "fanfare_publications_total": .init("Publications accepted by the rooms owned here."),
        "fanfare_publications_refused_total": .init("Publications refused by the rooms owned here."),
        "fanfare_deliveries_total": .init("Publications handed to client connections."),
        "fanfare_recoveries_total": .init("Recoveries of subscriptions, by result."),
        "fanfare_gap_repairs_total": .init("Gaps in what a node heard of a room, filled from the history."),
        "fanfare_insufficient_state_total": .init("Subscribers told that they cannot be brought up to date."),
        "fanfare_room_restores_total": .init("Rooms whose history was put back into the broker by their owner."),
        // Cluster.
        "fanfare_cluster_view": .init("Number of the membership view; equal on all nodes."),
        "fanfare_cluster_members": .init("Members of the cluster."),
        "fanfare_slots_owned": .init("Slots that this node owns."),
        "fanfare_slot_moves_total": .init("Slots that this node took over."),
        "fanfare_fence_rejections_total": .init("Writes refused because another node owns the slot or shard."),
        "fanfare_draining": .init("1 while the node drains."),
        // Engines.
        "fanfare_broker_connected": .init("1 while the link to the engine is up."),
        "fanfare_broker_reconnects_total": .init("Reconnects to engines."),
        "fanfare_broker_inflight": .init("Requests to engines under way."),
        "fanfare_broker_requests_total": .init("Requests to engines, by operation and result."),
        "fanfare_broker_request_duration_seconds": .init("Time that requests to engines took.", bounds: .io),
        "fanfare_breaker_state": .init("1 for the state that the circuit breaker is in."),
        "fanfare_breaker_open": .init("1 where the breaker refuses or probes."),
        "fanfare_breaker_transitions_total": .init("Changes of circuit breakers."),
        "fanfare_pool_waiting": .init("Callers that wait for a database connection."),
        "fanfare_pool_wait_seconds": .init("Time that callers waited for a database connection.", bounds: .io),
        "fanfare_pool_refused_total": .init("Callers that got no database connection, by reason."),
        "fanfare_bulk_limit": .init("Bulk work that may run at once; below 1, its share of the time."),
        "fanfare_bulk_waiting": .init("Bulk work that waits for its turn."),
        "fanfare_bulk_refused_total": .init("Bulk work that got no turn in time."),
        "fanfare_retries_total": .init("Retries, by operation."),
        "fanfare_session_overruns_total": .init(
            "Sessions ended because more waited for their connect or inbox than may."),
        "fanfare_limits_reached_total": .init("Requests refused because as many as may be are there, by limit."),
        "fanfare_rate_limited_total": .init("Requests refused by a rate limit."),
        "fanfare_idempotency_keys": .init("Idempotency keys that came through here and are remembered."),
        // Durable work.
        "fanfare_outbox_pending": .init("Events that wait for their fan-out jobs."),
        "fanfare_scheduled_events": .init("Scheduled events that wait for their time."),
        "fanfare_scheduled_events_lag_seconds": .init("How long the oldest of them is overdue."),
        "fanfare_outbox_lag_seconds": .init("Age of the oldest waiting event."),
        "fanfare_fanout_backlog": .init("Fan-out jobs that are not done."),
        "fanfare_fanout_rows_total": .init("Recipients that this node's shards worked through."),
        "fanfare_fanout_failures_total": .init("Failures of fan-out shards, tried again."),
        "fanfare_inbox_rows_total": .init("Inbox entries written."),
        "fanfare_inbox_pushes_total": .init("Notifications pushed to sessions here."),
        "fanfare_inbox_pushes_undelivered_total": .init("Pushes given up because a node did not answer."),
        "fanfare_inbox_chain_breaks_total": .init(
            "Shards whose inboxes were compared before a push was given: a new owner, or a push that was lost."),
        "fanfare_inbox_push_messages_total": .init("Messages with pushes sent to other nodes."),
        "fanfare_inbox_push_bytes_total": .init("Bytes of the messages with pushes sent to other nodes."),
        "fanfare_online_users": .init("Users online anywhere whose shards this node owns."),
        "fanfare_online_users_fullest": .init("Users online anywhere of the fullest shard that this node owns."),
        "fanfare_activity_marks_total": .init("Users marked as active, once a day each."),
        "fanfare_activity_marks_dropped_total": .init("Comings and goings not marked because too many waited."),
        "fanfare_fanout_ahead_rows_total": .init("Inbox entries of large events written before the others' entries."),
        "fanfare_fanout_ahead_full_total": .init("Shards in which more users could have had theirs before the others."),
        "fanfare_online_changes": .init("Comings and goings that wait to be told to the owners of their shards."),
        "fanfare_online_users_refused_total": .init("Users beyond the limit of their shard: compared, not pushed."),
        "fanfare_online_announcements_total": .init("Announcements of users who came or went."),
        "fanfare_online_announcements_overflowed_total": .init("Changes given up for a snapshot: too many waited."),
        "fanfare_online_snapshots_wanted_total": .init("Shards that an owner asked for whole."),
        "fanfare_online_repairs_total": .init("Shards announced again because a digest differed."),
        "fanfare_inbox_pushes_skipped_total": .init(
            "Notifications that were not pushed: muted, expired, or not wanted any more."),
        "fanfare_inboxes_deferred_total": .init(
            "Times that a session's notifications began to wait for the end of quiet hours."),
        "fanfare_inbox_repairs_total": .init("User channels brought up to date from the inbox."),
        "fanfare_dead_letters": .init("Work that failed for good and waits for an operator."),
        "fanfare_dead_letters_forgotten_total": .init("Settled dead letters that were removed."),
        "fanfare_dead_letters_oldest_seconds": .init("Age of the oldest dead letter that waits."),
        "fanfare_dead_letters_settled_total": .init("Dead letters replayed, discarded, or shed beyond their limit."),
        "fanfare_dead_letters_total": .init("Work that failed for good."),
        // The process.
        "fanfare_build_info": .init("Always 1; the labels tell the version."),
        "fanfare_loop_busy_milliseconds_total": .init("Time that an event loop worked."),
        "fanfare_loop_jobs_total": .init("Jobs of actors that an event loop ran."),
        "fanfare_loop_lag_seconds": .init("The longest turn of an event loop since the last report."),
        "fanfare_loop_turns_total": .init("Turns of an event loop."),
        "fanfare_loop_wakeups_total": .init("Times that another thread woke an event loop."),
        "fanfare_log_dropped_total": .init("Log lines dropped because their reader was slow."),
        "fanfare_metrics_dropped_series_total": .init("Series folded into `other` by the registry's limits."),
        "fanfare_metrics_type_clashes_total": .init("Metrics not shown because their name had another type."),
        "process_cpu_seconds_total": .init("User and system time used by the process."),
        "process_resident_memory_bytes": .init("Resident memory."),
        "process_virtual_memory_bytes": .init("Virtual memory."),
        "process_open_fds": .init("Open file descriptors."),
        "process_max_fds": .init("The most file descriptors that may be open."),
        "process_start_time_seconds": .init("When the process started, in seconds since 1970."),
        "process_threads": .init("Threads of the process."),
    ]
}
