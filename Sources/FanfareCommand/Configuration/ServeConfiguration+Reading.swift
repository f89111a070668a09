import FanfareObservability
import Foundation
import Logging

extension ServeConfiguration {
    /// What the machine tells.
    package struct Machine: Sendable {
        package var hostName: String
        package var cores: Int
        package var isTerminal: Bool

        package init(hostName: String, cores: Int, isTerminal: Bool) {
            self.hostName = hostName
            self.cores = cores
            self.isTerminal = isTerminal
        }

        package static var current: Machine {
            Machine(
                hostName: ProcessInfo.processInfo.hostName, cores: ProcessInfo.processInfo.activeProcessorCount,
                isTerminal: StandardErrorSink.isTerminal)
        }
    }

    /// Reads all layers: the command line wins over the environment, the environment over the file, the file over the
    /// defaults. An empty value counts as absent.
    /// - Parameters:
    ///   - commandLine: by setting name, and `config` for the file's path.
    ///   - environment: all variables; `FANFARE_CONFIG` names the file where the command line does not.
    package static func read(
        commandLine: [String: String], environment: [String: String], machine: Machine
    ) throws(ConfigurationError) -> ServeConfiguration {
        let path = [commandLine["config"], environment["FANFARE_CONFIG"]].compactMap { $0 }.first { !$0.isEmpty }
        var file: [String: String] = [:]
        if let path { file = try ConfigurationFile.read(path) }
        let values = SettingValues(commandLine: commandLine, environment: environment, file: file)
        var configuration = ServeConfiguration()
        try configuration.readNode(values, machine)
        try configuration.readEngines(values)
        try configuration.readKeys(values)
        try configuration.readLogs(values, environment, machine)
        try configuration.limits.read(values)
        return configuration
    }

    private mutating func readNode(_ values: SettingValues, _ machine: Machine) throws(ConfigurationError) {
        self.host = values.text("host") ?? self.host
        guard ServeConfiguration.isHost(self.host) else {
            throw values.error("host", self.host, "an address or a host name")
        }
        self.port = try values.integer("port", in: 0...65_535, default: self.port)
        self.nodeName = values.text("node_name") ?? "\(machine.hostName):\(self.port)"
        guard self.nodeName.utf8.count <= 128, self.nodeName.utf8.allSatisfy({ (0x21...0x7e).contains($0) }),
            !self.nodeName.contains(where: { "{}".contains($0) })
        else { throw values.error("node_name", self.nodeName, "a name of 1-128 printable characters without braces") }
        let shown = self.host.contains(":") ? "[\(self.host)]" : self.host
        self.weight = try values.integer("weight", in: 1...100, default: 1)
        self.loops = try values.integer("loops", in: 1...256, default: max(1, min(machine.cores, 256)))
        self.hasAccounts = try values.flag("accounts")
        try self.refuseTLS(values)
        self.address = "http://\(shown):\(self.port)"
        if let address = values.text("address") {
            guard ServeConfiguration.isURL(address, schemes: ["http", "https"]) else {
                throw values.error("address", address, "an http:// or https:// URL")
            }
            self.address = address
        }
    }

    /// Who asks for encryption must not get a node that speaks without.
    private func refuseTLS(_ values: SettingValues) throws(ConfigurationError) {
        for name in ["tls_certificate", "tls_key"] where values.text(name) != nil {
            throw ConfigurationError("\(name): this version does not serve TLS; put a proxy that does before it")
        }
    }

    private mutating func readEngines(_ values: SettingValues) throws(ConfigurationError) {
        self.redisURL = values.text("redis_url")
        if let url = self.redisURL, !ServeConfiguration.isURL(url, schemes: ["redis", "rediss"]) {
            throw values.error("redis_url", url, "a URL of the form redis://host:port")
        }
        self.redisPrefix = values.text("redis_prefix") ?? self.redisPrefix
        guard (1...32).contains(self.redisPrefix.utf8.count),
            self.redisPrefix.utf8.allSatisfy({ (0x21...0x7e).contains($0) && $0 != 0x7b && $0 != 0x7d })
        else { throw values.error("redis_prefix", self.redisPrefix, "1-32 printable characters without braces") }
        self.databaseURL = values.text("database_url")
        if let url = self.databaseURL, !ServeConfiguration.isDatabaseURL(url) {
            throw values.error("database_url", url, "a URL of the form postgres://user@host/database")
        }
        self.databaseConnections = try values.integer("database_connections", in: 1...100, default: 5)
        self.fanoutConnections = try values.integer("fanout_connections", in: 1...100, default: 3)
    }

    private mutating func readKeys(_ values: SettingValues) throws(ConfigurationError) {
        self.tokenSecret = values.text("token_secret")
        if let location = values.text("jwks") {
            if location.contains("://") {
                guard ServeConfiguration.isURL(location, schemes: ["http", "https"]) else {
                    throw values.error("jwks", location, "a file or an http(s) URL")
                }
                self.jwks = .url(location)
            } else {
                self.jwks = try values.file("jwks").map { .file($0) }
            }
        }
        self.isInsecure = try values.flag("insecure_dev")
        guard self.tokenSecret != nil || self.jwks != nil || self.isInsecure else {
            throw ConfigurationError(
                "no token keys: set --token-secret (FANFARE_TOKEN_SECRET) or --jwks (FANFARE_JWKS), "
                    + "or start with --insecure-dev to try things out")
        }
        if let secret = self.tokenSecret, secret.utf8.count < 32 {
            self.warnings.append("token_secret is shorter than 32 bytes")
        }
        self.apiKey = values.text("api_key")
        self.eventSubSecret = values.text("eventsub_secret")
        if let secret = self.eventSubSecret, !(10...100).contains(secret.utf8.count) {
            throw values.error("eventsub_secret", secret, "10-100 characters")
        }
        for origin in (values.text("allowed_origins") ?? "").split(separator: ",") {
            let origin = origin.trimmingCharacters(in: .whitespaces)
            guard origin == "*" || ServeConfiguration.isOrigin(origin) else {
                throw values.error("allowed_origins", origin, "* or origins such as https://example.org")
            }
            self.allowedOrigins.append(origin)
        }
        if self.isInsecure, self.tokenSecret == nil, self.jwks == nil {
            self.warnings.append("no token keys: every token is refused, everybody is anonymous")
        }
    }

    private mutating func readLogs(
        _ values: SettingValues, _ environment: [String: String], _ machine: Machine
    ) throws(ConfigurationError) {
        var texts = ["NO_COLOR": environment["NO_COLOR"] ?? ""]
        texts["LOG_LEVEL"] = values.text("log_level")
        texts["LOG_FORMAT"] = values.text("log_format")
        do {
            self.log = try LogConfiguration(environment: texts, isTerminal: machine.isTerminal)
        } catch {
            throw ConfigurationError(error.description)
        }
        self.log.metadata = ["node": "\(self.nodeName)"]
        self.otlpEndpoint = values.text("otlp_endpoint")
        if let url = self.otlpEndpoint, !ServeConfiguration.isURL(url, schemes: ["http", "https"]) {
            throw values.error("otlp_endpoint", url, "an http:// or https:// URL")
        }
        self.serviceName = values.text("service_name") ?? self.serviceName
    }

    // MARK: Forms

    /// A host name, an IPv4 or an IPv6 address.
    static func isHost(_ text: String) -> Bool {
        if text.contains(":") {
            return text.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x3a, 0x41...0x46, 0x61...0x66, 0x2e, 0x25: true
                default: false
                }
            }
        }
        return (1...253).contains(text.utf8.count)
            && text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
                (1...63).contains(label.utf8.count) && label.first != "-"
                    && label.utf8.allSatisfy { byte in
                        switch byte {
                        case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x5f: true
                        default: false
                        }
                    }
            }
    }

    static func isURL(_ text: String, schemes: [String]) -> Bool {
        guard let url = URLComponents(string: text), let scheme = url.scheme?.lowercased(), schemes.contains(scheme),
            let host = url.host, !host.isEmpty
        else { return false }
        return url.port.map { (1...65_535).contains($0) } ?? true
    }

    /// libpq also takes a URL without a host (a local socket), several hosts, and keyword=value pairs: it has the last word.
    static func isDatabaseURL(_ text: String) -> Bool {
        if let separator = text.range(of: "://"), !text[..<separator.lowerBound].contains("=") {
            return ["postgres", "postgresql"].contains(text[..<separator.lowerBound].lowercased())
        }
        return text.contains("=")
    }

    static func isOrigin(_ text: String) -> Bool {
        guard self.isURL(text, schemes: ["http", "https"]), let url = URLComponents(string: text) else { return false }
        return url.path.isEmpty && url.query == nil && url.user == nil
    }
}

extension ServeConfiguration.Limits {
    fileprivate mutating func read(_ values: SettingValues) throws(ConfigurationError) {
        self.connections = try values.integer("max_connections", in: 1...10_000_000, default: self.connections)
        self.messageBytes = try values.bytes("message_bytes", in: 1024...(64 << 20), default: self.messageBytes)
        self.dataBytes = try values.bytes("data_bytes", in: 1...(64 << 20), default: self.dataBytes)
        guard self.dataBytes <= self.messageBytes else {
            throw ConfigurationError("data_bytes (\(self.dataBytes)) is above message_bytes (\(self.messageBytes))")
        }
        self.channelsPerSession = try values.integer("session_channels", in: 1...100_000, default: 128)
        self.commandsPerSession = try values.integer("session_commands", in: 1...1_000_000, default: 1024)
        self.commandRate = try values.optionalInteger("session_rate", in: 1...1_000_000)
        self.commandBurst = try values.integer("session_burst", in: 1...1_000_000, default: self.commandBurst)
        self.connectRate = try values.optionalInteger("connect_rate", in: 1...1_000_000)
        self.connectBurst = try values.integer("connect_burst", in: 1...1_000_000, default: self.connectBurst)
        self.queueBytes = try values.bytes("queue_bytes", in: 4096...(1 << 30), default: self.queueBytes)
        let times = Duration.milliseconds(50)...Duration.seconds(86_400)
        self.pingInterval = try values.duration("ping_interval", in: times, default: self.pingInterval)
        self.pongTimeout = try values.duration(
            "pong_timeout", in: times, default: min(.seconds(8), self.pingInterval / 2))
        guard self.pongTimeout < self.pingInterval else {
            throw ConfigurationError(
                "pong_timeout (\(Quantity.text(self.pongTimeout))) is not shorter than ping_interval "
                    + "(\(Quantity.text(self.pingInterval)))")
        }
        self.staleTimeout = try values.duration("stale_timeout", in: times, default: self.staleTimeout)
        self.expiryGrace = try values.duration(
            "expiry_grace", in: .zero...(.seconds(86_400)), default: self.expiryGrace)

        let ages = Duration.seconds(1)...Duration.seconds(366 * 86_400)
        self.historySize = try values.integer("history_size", in: 0...100_000, default: self.historySize)
        self.historyBytes = try values.bytes("history_bytes", in: 0...(1 << 30), default: self.historyBytes)
        self.historyTime = try values.duration("history_ttl", in: ages, default: self.historyTime)
        self.positionTime = try values.duration(
            "position_ttl", in: ages, default: max(self.positionTime, self.historyTime))
        guard self.positionTime >= self.historyTime else {
            throw ConfigurationError(
                "position_ttl (\(Quantity.text(self.positionTime))) is shorter than history_ttl "
                    + "(\(Quantity.text(self.historyTime)))")
        }
        self.idempotencyWindow = try values.duration("idempotency_window", in: ages, default: self.idempotencyWindow)
        self.idempotencyKeys = try values.integer("idempotency_keys", in: 0...10_000_000, default: self.idempotencyKeys)
        self.emptyRoomTime = try values.duration("empty_room_ttl", in: ages, default: self.emptyRoomTime)
        self.ownedRooms = try values.integer("owned_rooms", in: 1...10_000_000, default: self.ownedRooms)
        self.slotQueue = try values.integer("slot_queue", in: 1...10_000_000, default: self.slotQueue)
        self.slotQueueBytes = try values.bytes("slot_queue_bytes", in: 65_536...(1 << 33), default: self.slotQueueBytes)
        self.roomRequests = try values.integer("room_requests", in: 1...10_000_000, default: self.roomRequests)
        self.inboxRecovery = try values.integer("inbox_recovery", in: 0...10_000, default: self.inboxRecovery)
        self.databaseQueue = try values.integer("database_queue", in: 0...100_000, default: self.databaseQueue)
        self.databaseQueueTime = try values.duration(
            "database_queue_time", in: .milliseconds(10)...(.seconds(60)), default: self.databaseQueueTime)
        let statements = Duration.milliseconds(100)...Duration.seconds(600)
        self.statementTimeout = try values.duration("statement_timeout", in: statements, default: self.statementTimeout)
        self.requestTimeout = try values.duration(
            "request_timeout", in: statements, default: min(self.requestTimeout, self.statementTimeout))
        guard self.requestTimeout <= self.statementTimeout else {
            throw ConfigurationError(
                "request_timeout (\(Quantity.text(self.requestTimeout))) is longer than statement_timeout "
                    + "(\(Quantity.text(self.statementTimeout)))")
        }
        let target = try values.duration(
            "read_target", in: .zero...(.seconds(60)), default: self.readTarget ?? .zero)
        self.readTarget = target > .zero ? target : nil
        self.deadLetterLimit = try values.integer(
            "dead_letter_limit", in: 100...10_000_000, default: self.deadLetterLimit)
        self.deadLetterTime = try values.duration("dead_letter_ttl", in: ages, default: self.deadLetterTime)
        self.mutedStreamers = try values.integer("muted_streamers", in: 0...10_000, default: self.mutedStreamers)
        self.scheduledEvents = try values.integer("scheduled_events", in: 0...1_000_000, default: self.scheduledEvents)
        self.notificationTime = try values.duration("notification_ttl", in: ages, default: self.notificationTime)
        try self.readRetention(values)
        self.broadcastThreshold = try values.integer(
            "broadcast_threshold", in: 0...1_000_000_000, default: self.broadcastThreshold)
        self.holdOff = try values.duration("hold_off", in: .zero...(.seconds(86_400)), default: self.holdOff)
        self.onlineFirst = try values.integer("online_first", in: 0...1000, default: self.onlineFirst)
        let rates = 1...1_000_000_000
        self.fanoutRate = try values.optionalInteger("fanout_rate", in: rates)
        self.fanoutRates = try values.integers("fanout_rates", in: rates)
        self.fanoutPriorities = try values.integers("fanout_priorities", in: -100...100)
        self.inboxHeld = try values.integer("inbox_held", in: 1...100_000, default: self.inboxHeld)
        self.onlineUsers = try values.integer("online_users", in: 0...10_000_000, default: self.onlineUsers)
        self.onlineChanges = try values.integer("online_changes", in: 1...1_000_000, default: self.onlineChanges)
        self.heldBytes = try values.bytes("held_bytes", in: 65_536...(1 << 30), default: self.heldBytes)

        self.heartbeatLease = try values.duration(
            "heartbeat_lease", in: .milliseconds(300)...(.seconds(300)), default: self.heartbeatLease)
        self.drainDeadline = try values.duration(
            "drain_deadline", in: .zero...(.seconds(3600)), default: self.drainDeadline)
    }

    /// Entries refer to events: what an inbox shows must be there.
    private mutating func readRetention(_ values: SettingValues) throws(ConfigurationError) {
        func retention(_ name: String, _ usual: Duration?) throws(ConfigurationError) -> Duration? {
            let years = Duration.zero...Duration.seconds(100 * 366 * 86_400)
            let time = try values.duration(name, in: years, default: usual ?? .zero)
            guard time > .zero else { return nil }
            guard time >= .seconds(1) else { throw ConfigurationError("\(name) is shorter than 1s (0: for ever)") }
            return time
        }
        self.inboxLimit = try values.integer("inbox_limit", in: 1...1_000_000, default: self.inboxLimit)
        self.inboxRetention = try retention("inbox_retention", self.inboxRetention)
        // Where it is not said, events are kept as long as entries may refer to them.
        let usual = self.inboxRetention.map { max($0, self.eventRetention ?? $0) }
        self.eventRetention = try retention("event_retention", usual)
        guard let events = self.eventRetention else { return }
        guard let inbox = self.inboxRetention else {
            throw ConfigurationError(
                "event_retention (\(Quantity.text(events))) is set, but inbox_retention keeps entries for ever: "
                    + "their events have to stay")
        }
        guard events >= inbox else {
            throw ConfigurationError(
                "event_retention (\(Quantity.text(events))) is shorter than inbox_retention (\(Quantity.text(inbox))): "
                    + "entries need their events")
        }
    }
}
