/// One thing that can be set about a node: `--ping-interval` on the command line, `FANFARE_PING_INTERVAL` in the
/// environment, `ping_interval` in the file.
package struct Setting: Sendable, Hashable {
    /// As in the file: words joined by `_`. Sections of the file count as words: `room: {history_size: 5}`.
    package let name: String
    package let environment: String
    /// For people.
    package let defaultText: String
    package let help: String
    /// Never shown, not even where it is wrong.
    package let isSecret: Bool

    private init(_ name: String, environment: String? = nil, default text: String, secret: Bool = false, _ help: String)
    {
        self.name = name
        self.environment = environment ?? "FANFARE_" + name.uppercased()
        self.defaultText = text
        self.isSecret = secret
        self.help = help
    }

    package var flag: String { "--" + self.name.split(separator: "_").joined(separator: "-") }

    package static let all: [Setting] = [
        // The node.
        Setting("host", default: "127.0.0.1", "Address or host name to listen on."),
        Setting("port", default: "8000", "Port for everything: WebSocket, HTTP, metrics."),
        Setting("node_name", default: "host name and port", "The node's name, unique in the cluster."),
        Setting("address", default: "http://host:port", "The node's address as operators see it."),
        Setting("weight", default: "1", "Share of the slots relative to the other nodes, 1-100."),
        Setting("loops", default: "one per core", "Event loops that serve connections."),
        Setting("insecure_dev", default: "false", "Start without token keys: for development alone."),
        Setting("accounts", default: "false", "Switch on the built-in accounts at /auth. Not served yet."),
        // Engines.
        Setting(
            "redis_url", environment: "REDIS_URL", default: "none: one node, in memory", secret: true,
            "redis://[user:password@]host[:port][/database]; TLS is not offered."),
        Setting("redis_prefix", default: "ff", "First part of all Redis keys."),
        Setting(
            "database_url", environment: "DATABASE_URL", default: "none: no durable features", secret: true,
            "postgres://user@host/database, or libpq's keyword=value pairs."),
        Setting("database_connections", default: "5", "Database connections for requests, 1-100."),
        Setting("fanout_connections", default: "3", "Database connections for fan-out, 1-100."),
        Setting("database_queue", default: "256", "Callers that wait for a database connection; then error 1004."),
        Setting("database_queue_time", default: "2s", "How long one waits; then error 1004."),
        Setting("statement_timeout", default: "10s", "Time for a statement, kept by PostgreSQL."),
        Setting("request_timeout", default: "4s", "The same where a user waits for the answer."),
        Setting(
            "read_target", default: "50ms",
            "Where reads take longer, and longer than usual, the fan-out gives way; 0: never."),
        // Keys.
        Setting("token_secret", default: "none", secret: true, "Secret of HS256 tokens."),
        Setting("jwks", default: "none", "File or URL of a JSON Web Key Set: RS256, ES256, EdDSA."),
        Setting("api_key", default: "none: server API off", secret: true, "Key of the server API."),
        Setting(
            "eventsub_secret", default: "none: off", secret: true, "Secret of Twitch EventSub webhooks. Not served yet."
        ),
        Setting(
            "allowed_origins", default: "same origin",
            "Origins of browsers that may connect, comma-separated; * for all."),
        Setting(
            "tls_certificate", default: "none: plain", "PEM file with the certificate chain. Not served yet: refused."),
        Setting("tls_key", default: "none", "PEM file with the private key. Not served yet: refused."),
        // Logs and traces.
        Setting(
            "log_level", environment: "LOG_LEVEL", default: "info",
            "trace, debug, info, notice, warning, error, critical."),
        Setting("log_format", environment: "LOG_FORMAT", default: "text on a terminal, else json", "text or json."),
        Setting(
            "otlp_endpoint", environment: "OTEL_EXPORTER_OTLP_ENDPOINT", default: "off",
            "Base URL of an OTLP collector. Not served yet."),
        Setting("service_name", environment: "OTEL_SERVICE_NAME", default: "fanfare", "The service's name in traces."),
        // Connections.
        Setting("max_connections", default: "100000", "Client connections of this node."),
        Setting("message_bytes", default: "128KiB", "Size of a client's message."),
        Setting("data_bytes", default: "64KiB", "Size of a publication's data."),
        Setting("session_channels", default: "128", "Subscriptions of one session."),
        Setting("session_commands", default: "1024", "Commands of one session that wait for an answer."),
        Setting("session_rate", default: "1000, on loopback any", "Commands of one session a second; then error 111."),
        Setting("session_burst", default: "5000", "Commands of one session at once."),
        Setting("connect_rate", default: "20, on loopback any", "Connects from one address a second; then HTTP 429."),
        Setting("connect_burst", default: "100", "Connects from one address at once."),
        Setting("queue_bytes", default: "1MiB", "Bytes queued for a client before it is cut as slow."),
        Setting("ping_interval", default: "25s", "Time between pings to a client."),
        Setting("pong_timeout", default: "8s", "Time for a client's pong; shorter than the interval."),
        Setting("stale_timeout", default: "15s", "Time for a new connection's connect command."),
        Setting("expiry_grace", default: "25s", "Time after a token's expiry in which it may be refreshed."),
        // Rooms.
        Setting("history_size", default: "300", "Publications kept per room."),
        Setting("history_bytes", default: "8MiB", "Bytes kept per room."),
        Setting("history_ttl", default: "1h", "Time that publications are kept after the last one."),
        Setting("position_ttl", default: "30d", "Time that a room's offset is kept after the last publication."),
        Setting("idempotency_window", default: "5m", "Time that an idempotency key is remembered."),
        Setting(
            "idempotency_keys", default: "1000000",
            "Idempotency keys taken within that time; then a new one gets error 111."),
        Setting(
            "empty_room_ttl", default: "10m",
            "How long a room that was never written to is remembered after it was last asked for."),
        Setting(
            "owned_rooms", default: "100000",
            "Rooms open on this node as their owner; then error 111. Those in use no more make room within a minute."),
        Setting("slot_queue", default: "20000", "Publications that wait in one slot."),
        Setting("slot_queue_bytes", default: "32MiB", "Their bytes."),
        Setting("room_requests", default: "50000", "Publications and reads of rooms under way from this node."),
        Setting("inbox_recovery", default: "300", "Notifications recovered on a reconnect."),
        Setting("dead_letter_limit", default: "100000", "Dead letters kept; beyond it the oldest go."),
        Setting("dead_letter_ttl", default: "30d", "Time that a dead letter is kept after it was settled."),
        Setting("muted_streamers", default: "1000", "Streamers that one user may mute within a day; then error 106."),
        Setting("scheduled_events", default: "100000", "Events that wait for their time; then error 106."),
        Setting("notification_ttl", default: "30d", "The longest ttl_s of a notification."),
        Setting("inbox_retention", default: "90d", "Time that inbox entries are kept at the least; 0: for ever."),
        Setting("inbox_limit", default: "10000", "Newest entries that an inbox shows and counts."),
        Setting(
            "event_retention", default: "365d", "Time that events are kept, not below inbox_retention; 0: for ever."),
        Setting("broadcast_threshold", default: "100000", "Followers from whom on an event is kept once; 0: never."),
        Setting("hold_off", default: "30s", "Time after a start in which a restarted stream makes no new event."),
        Setting(
            "online_first", default: "128",
            "Users of each fan-out shard who hear of a large event before the others; 0: nobody."),
        Setting("fanout_rate", default: "none", "Inbox rows per second of the whole cluster."),
        Setting("fanout_rates", default: "none", "The same by event type: stream.live=50000,custom.ad=1000."),
        Setting("fanout_priorities", default: "none", "By event type, -100 to 100, 0 is usual: stream.live=10."),
        Setting("inbox_held", default: "1000", "Notifications that wait for one session to be sure of its position."),
        Setting("online_users", default: "50000", "Users of one fan-out shard that its owner knows to be online."),
        Setting("online_changes", default: "2000", "Comings and goings of one fan-out shard that wait to be told."),
        Setting("held_bytes", default: "1MiB", "Bytes that wait for one session so, or for its connect reply."),
        // Cluster.
        Setting("heartbeat_lease", default: "3s", "Time after which a silent node is taken for dead."),
        Setting("drain_deadline", default: "8s", "Time for leaving in peace."),
    ]
}

/// A setting that cannot be used: one line for the operator.
package struct ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }

    init(_ setting: Setting, _ value: String, _ expected: String) {
        let shown = setting.isSecret ? "its value" : "'\(value.prefix(100))'"
        self.init(
            "\(setting.name): \(shown) is not \(expected) (set by \(setting.flag), \(setting.environment) or the file)")
    }
}
