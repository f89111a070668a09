package import ArgumentParser

/// The options of `fanfare serve`. All values are texts here: `ServeConfiguration.read` judges them together with the
/// other layers, so that a wrong one is told in the same way wherever it was set.
package struct ServeOptions: ParsableArguments {
    @Option(help: ArgumentHelp("YAML or JSON file with any of these settings (FANFARE_CONFIG).", valueName: "file"))
    package var config: String?

    @Flag(help: .setting("insecure_dev"))
    package var insecureDev = false

    @Flag(help: .setting("accounts"))
    package var accounts = false

    @OptionGroup(title: "Node") var node: NodeOptions
    @OptionGroup(title: "Engines") var engine: EngineOptions
    @OptionGroup(title: "Keys and origins") var key: KeyOptions
    @OptionGroup(title: "Logs and traces") var log: LogOptions
    @OptionGroup(title: "Connections") var connection: ConnectionOptions
    @OptionGroup(title: "Rooms and notifications") var room: RoomOptions
    @OptionGroup(title: "Cluster") var cluster: ClusterOptions

    package init() {}

    /// What was given, by setting name, and `config`.
    package var values: [String: String] {
        var values: [String: String] = [:]
        values["config"] = self.config
        if self.insecureDev { values["insecure_dev"] = "true" }
        if self.accounts { values["accounts"] = "true" }
        let groups = [
            self.node.values, self.engine.values, self.key.values, self.log.values, self.connection.values,
            self.room.values, self.cluster.values,
        ]
        for group in groups {
            for (name, value) in group { values[name] = value }
        }
        return values
    }
}

extension ArgumentHelp {
    /// The help of a setting, with its variable and default.
    fileprivate static func setting(_ name: String) -> ArgumentHelp {
        guard let setting = Setting.all.first(where: { $0.name == name }) else { return ArgumentHelp(name) }
        return ArgumentHelp(
            "\(setting.help) (\(setting.environment); default: \(setting.defaultText))", valueName: "value")
    }
}

struct NodeOptions: ParsableArguments {
    @Option(name: .customLong("host"), help: .setting("host")) var host: String?
    @Option(name: .customLong("port"), help: .setting("port")) var port: String?
    @Option(name: .customLong("node-name"), help: .setting("node_name")) var nodeName: String?
    @Option(name: .customLong("address"), help: .setting("address")) var address: String?
    @Option(name: .customLong("weight"), help: .setting("weight")) var weight: String?
    @Option(name: .customLong("loops"), help: .setting("loops")) var loops: String?

    var values: [String: String?] {
        [
            "host": self.host,
            "port": self.port,
            "node_name": self.nodeName,
            "address": self.address,
            "weight": self.weight,
            "loops": self.loops,
        ]
    }
}

struct EngineOptions: ParsableArguments {
    @Option(name: .customLong("redis-url"), help: .setting("redis_url")) var redisURL: String?
    @Option(name: .customLong("redis-prefix"), help: .setting("redis_prefix")) var redisPrefix: String?
    @Option(name: .customLong("database-url"), help: .setting("database_url")) var databaseURL: String?
    @Option(name: .customLong("database-connections"), help: .setting("database_connections")) var databaseConnections:
        String?
    @Option(name: .customLong("fanout-connections"), help: .setting("fanout_connections")) var fanoutConnections:
        String?

    @Option(name: .customLong("database-queue"), help: .setting("database_queue")) var databaseQueue: String?
    @Option(name: .customLong("database-queue-time"), help: .setting("database_queue_time")) var databaseQueueTime:
        String?
    @Option(name: .customLong("statement-timeout"), help: .setting("statement_timeout")) var statementTimeout: String?
    @Option(name: .customLong("request-timeout"), help: .setting("request_timeout")) var requestTimeout: String?
    @Option(name: .customLong("read-target"), help: .setting("read_target")) var readTarget: String?

    var values: [String: String?] {
        [
            "database_queue": self.databaseQueue,
            "database_queue_time": self.databaseQueueTime,
            "statement_timeout": self.statementTimeout,
            "request_timeout": self.requestTimeout,
            "read_target": self.readTarget,
            "redis_url": self.redisURL,
            "redis_prefix": self.redisPrefix,
            "database_url": self.databaseURL,
            "database_connections": self.databaseConnections,
            "fanout_connections": self.fanoutConnections,
        ]
    }
}

struct KeyOptions: ParsableArguments {
    @Option(name: .customLong("token-secret"), help: .setting("token_secret")) var tokenSecret: String?
    @Option(name: .customLong("jwks"), help: .setting("jwks")) var jwks: String?
    @Option(name: .customLong("api-key"), help: .setting("api_key")) var apiKey: String?
    @Option(name: .customLong("eventsub-secret"), help: .setting("eventsub_secret")) var eventsubSecret: String?
    @Option(name: .customLong("allowed-origins"), help: .setting("allowed_origins")) var allowedOrigins: String?
    @Option(name: .customLong("tls-certificate"), help: .setting("tls_certificate")) var tlsCertificate: String?
    @Option(name: .customLong("tls-key"), help: .setting("tls_key")) var tlsKey: String?

    var values: [String: String?] {
        [
            "token_secret": self.tokenSecret,
            "jwks": self.jwks,
            "api_key": self.apiKey,
            "eventsub_secret": self.eventsubSecret,
            "allowed_origins": self.allowedOrigins,
            "tls_certificate": self.tlsCertificate,
            "tls_key": self.tlsKey,
        ]
    }
}

struct LogOptions: ParsableArguments {
    @Option(name: .customLong("log-level"), help: .setting("log_level")) var logLevel: String?
    @Option(name: .customLong("log-format"), help: .setting("log_format")) var logFormat: String?
    @Option(name: .customLong("otlp-endpoint"), help: .setting("otlp_endpoint")) var otlpEndpoint: String?
    @Option(name: .customLong("service-name"), help: .setting("service_name")) var serviceName: String?

    var values: [String: String?] {
        [
            "log_level": self.logLevel,
            "log_format": self.logFormat,
            "otlp_endpoint": self.otlpEndpoint,
            "service_name": self.serviceName,
        ]
    }
}

struct ConnectionOptions: ParsableArguments {
    @Option(name: .customLong("max-connections"), help: .setting("max_connections")) var maxConnections: String?
    @Option(name: .customLong("message-bytes"), help: .setting("message_bytes")) var messageBytes: String?
    @Option(name: .customLong("data-bytes"), help: .setting("data_bytes")) var dataBytes: String?
    @Option(name: .customLong("session-channels"), help: .setting("session_channels")) var sessionChannels: String?
    @Option(name: .customLong("session-commands"), help: .setting("session_commands")) var sessionCommands: String?
    @Option(name: .customLong("session-rate"), help: .setting("session_rate")) var sessionRate: String?
    @Option(name: .customLong("session-burst"), help: .setting("session_burst")) var sessionBurst: String?
    @Option(name: .customLong("connect-rate"), help: .setting("connect_rate")) var connectRate: String?
    @Option(name: .customLong("connect-burst"), help: .setting("connect_burst")) var connectBurst: String?
    @Option(name: .customLong("queue-bytes"), help: .setting("queue_bytes")) var queueBytes: String?
    @Option(name: .customLong("ping-interval"), help: .setting("ping_interval")) var pingInterval: String?
    @Option(name: .customLong("pong-timeout"), help: .setting("pong_timeout")) var pongTimeout: String?
    @Option(name: .customLong("stale-timeout"), help: .setting("stale_timeout")) var staleTimeout: String?
    @Option(name: .customLong("expiry-grace"), help: .setting("expiry_grace")) var expiryGrace: String?

    var values: [String: String?] {
        [
            "max_connections": self.maxConnections,
            "message_bytes": self.messageBytes,
            "data_bytes": self.dataBytes,
            "session_channels": self.sessionChannels,
            "session_commands": self.sessionCommands,
            "session_rate": self.sessionRate,
            "session_burst": self.sessionBurst,
            "connect_rate": self.connectRate,
            "connect_burst": self.connectBurst,
            "queue_bytes": self.queueBytes,
            "ping_interval": self.pingInterval,
            "pong_timeout": self.pongTimeout,
            "stale_timeout": self.staleTimeout,
            "expiry_grace": self.expiryGrace,
        ]
    }
}

struct RoomOptions: ParsableArguments {
    @Option(name: .customLong("history-size"), help: .setting("history_size")) var historySize: String?
    @Option(name: .customLong("history-bytes"), help: .setting("history_bytes")) var historyBytes: String?
    @Option(name: .customLong("history-ttl"), help: .setting("history_ttl")) var historyTTL: String?
    @Option(name: .customLong("position-ttl"), help: .setting("position_ttl")) var positionTTL: String?
    @Option(name: .customLong("idempotency-window"), help: .setting("idempotency_window")) var idempotencyWindow:
        String?
    @Option(name: .customLong("idempotency-keys"), help: .setting("idempotency_keys")) var idempotencyKeys: String?
    @Option(name: .customLong("empty-room-ttl"), help: .setting("empty_room_ttl")) var emptyRoomTTL: String?
    @Option(name: .customLong("owned-rooms"), help: .setting("owned_rooms")) var ownedRooms: String?
    @Option(name: .customLong("slot-queue"), help: .setting("slot_queue")) var slotQueue: String?
    @Option(name: .customLong("slot-queue-bytes"), help: .setting("slot_queue_bytes")) var slotQueueBytes: String?
    @Option(name: .customLong("room-requests"), help: .setting("room_requests")) var roomRequests: String?
    @Option(name: .customLong("inbox-recovery"), help: .setting("inbox_recovery")) var inboxRecovery: String?
    @Option(name: .customLong("dead-letter-limit"), help: .setting("dead_letter_limit")) var deadLetterLimit: String?
    @Option(name: .customLong("dead-letter-ttl"), help: .setting("dead_letter_ttl")) var deadLetterTTL: String?
    @Option(name: .customLong("muted-streamers"), help: .setting("muted_streamers")) var mutedStreamers: String?
    @Option(name: .customLong("scheduled-events"), help: .setting("scheduled_events")) var scheduledEvents: String?
    @Option(name: .customLong("notification-ttl"), help: .setting("notification_ttl")) var notificationTTL: String?
    @Option(name: .customLong("inbox-retention"), help: .setting("inbox_retention")) var inboxRetention: String?
    @Option(name: .customLong("inbox-limit"), help: .setting("inbox_limit")) var inboxLimit: String?
    @Option(name: .customLong("event-retention"), help: .setting("event_retention")) var eventRetention: String?
    @Option(name: .customLong("broadcast-threshold"), help: .setting("broadcast_threshold")) var broadcastThreshold:
        String?
    @Option(name: .customLong("hold-off"), help: .setting("hold_off")) var holdOff: String?
    @Option(name: .customLong("online-first"), help: .setting("online_first")) var onlineFirst: String?
    @Option(name: .customLong("fanout-rate"), help: .setting("fanout_rate")) var fanoutRate: String?
    @Option(name: .customLong("fanout-rates"), help: .setting("fanout_rates")) var fanoutRates: String?
    @Option(name: .customLong("fanout-priorities"), help: .setting("fanout_priorities")) var fanoutPriorities: String?
    @Option(name: .customLong("inbox-held"), help: .setting("inbox_held")) var inboxHeld: String?
    @Option(name: .customLong("online-users"), help: .setting("online_users")) var onlineUsers: String?
    @Option(name: .customLong("online-changes"), help: .setting("online_changes")) var onlineChanges: String?
    @Option(name: .customLong("held-bytes"), help: .setting("held_bytes")) var heldBytes: String?

    var values: [String: String?] {
        [
            "history_size": self.historySize,
            "history_bytes": self.historyBytes,
            "history_ttl": self.historyTTL,
            "position_ttl": self.positionTTL,
            "idempotency_window": self.idempotencyWindow,
            "idempotency_keys": self.idempotencyKeys,
            "empty_room_ttl": self.emptyRoomTTL,
            "owned_rooms": self.ownedRooms,
            "slot_queue": self.slotQueue,
            "slot_queue_bytes": self.slotQueueBytes,
            "room_requests": self.roomRequests,
            "inbox_recovery": self.inboxRecovery,
            "dead_letter_limit": self.deadLetterLimit,
            "dead_letter_ttl": self.deadLetterTTL,
            "muted_streamers": self.mutedStreamers,
            "scheduled_events": self.scheduledEvents,
            "notification_ttl": self.notificationTTL,
            "inbox_retention": self.inboxRetention,
            "inbox_limit": self.inboxLimit,
            "event_retention": self.eventRetention,
            "broadcast_threshold": self.broadcastThreshold,
            "hold_off": self.holdOff,
            "online_first": self.onlineFirst,
            "fanout_rate": self.fanoutRate,
            "fanout_rates": self.fanoutRates,
            "fanout_priorities": self.fanoutPriorities,
            "inbox_held": self.inboxHeld,
            "online_users": self.onlineUsers,
            "online_changes": self.onlineChanges,
            "held_bytes": self.heldBytes,
        ]
    }
}

struct ClusterOptions: ParsableArguments {
    @Option(name: .customLong("heartbeat-lease"), help: .setting("heartbeat_lease")) var heartbeatLease: String?
    @Option(name: .customLong("drain-deadline"), help: .setting("drain_deadline")) var drainDeadline: String?

    var values: [String: String?] {
        [
            "heartbeat_lease": self.heartbeatLease,
            "drain_deadline": self.drainDeadline,
        ]
    }
}
