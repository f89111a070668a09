import ArgumentParser
import FanfareObservability
import Foundation
import Logging
import Testing

@testable import FanfareCommand

@Suite struct ServeConfigurationTests {
    private let secret = ["FANFARE_TOKEN_SECRET": "a-secret-that-is-long-enough-for-hs256"]
    private let machine = ServeConfiguration.Machine(hostName: "box", cores: 4, isTerminal: false)

    private func read(
        _ arguments: [String] = [], _ environment: [String: String] = [:]
    ) throws -> ServeConfiguration {
        let options = try ServeOptions.parse(arguments)
        return try ServeConfiguration.read(
            commandLine: options.values, environment: self.secret.merging(environment) { $1 }, machine: self.machine)
    }

    private func withFile<Result>(_ content: String, _ body: (String) throws -> Result) throws -> Result {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("fanfare-\(UUID().uuidString).yaml")
        try Data(content.utf8).write(to: path)
        defer { try? FileManager.default.removeItem(at: path) }
        return try body(path.path)
    }

    @Test func defaults() throws {
        let configuration = try self.read()
        #expect(configuration.host == "127.0.0.1" && configuration.port == 8000)
        #expect(configuration.nodeName == "box:8000" && configuration.address == "http://127.0.0.1:8000")
        #expect(configuration.loops == 4 && configuration.weight == 1)
        #expect(configuration.redisURL == nil && configuration.databaseURL == nil && configuration.apiKey == nil)
        #expect(configuration.limits == ServeConfiguration.Limits())
        #expect(configuration.log.level == .info && configuration.log.format == .json)
        #expect(configuration.log.metadata["node"] == "box:8000")
        #expect(configuration.warnings.isEmpty)
    }

    @Test func theCommandLineWinsOverTheEnvironmentOverTheFile() throws {
        let file = """
            port: 1001
            weight: 11
            ping_interval: 11
            history-size: 11
            """
        try self.withFile(file) { path in
            let environment = [
                "FANFARE_CONFIG": path, "FANFARE_PORT": "1002", "FANFARE_WEIGHT": "12", "FANFARE_PING_INTERVAL": "",
            ]
            let configuration = try self.read(["--port", "1003"], environment)
            #expect(configuration.port == 1003 && configuration.weight == 12)
            // Empty counts as absent.
            #expect(configuration.limits.pingInterval == .seconds(11))
            #expect(configuration.limits.historySize == 11)
        }
    }

    @Test func everySettingCanBeSetEverywhere() throws {
        let flags: Set<String> = ["insecure_dev", "accounts"]
        let arguments = Setting.all.flatMap { flags.contains($0.name) ? [$0.flag] : [$0.flag, "x-\($0.name)"] }
        let values = try ServeOptions.parse(arguments).values
        for setting in Setting.all {
            #expect(values[setting.name] == (flags.contains(setting.name) ? "true" : "x-\(setting.name)"))
            #expect(try ConfigurationFile.parse("\(setting.name): x", name: "f") == [setting.name: "x"])
        }
        #expect(Set(Setting.all.map(\.name)).count == Setting.all.count)
        #expect(Set(Setting.all.map(\.environment)).count == Setting.all.count)
        let help = ServeOptions.helpMessage()
        for setting in Setting.all { #expect(help.contains(setting.flag)) }
    }

    @Test func sectionsListsAndJSON() throws {
        let yaml = """
            # a comment
            tls: {certificate: c.pem, key: k.pem}
            history:
              size: 5
              ttl: 2h
            allowed_origins: [https://a.example, "https://b.example:8443"]
            api_key: "007"
            redis_url:
            """
        #expect(
            try ConfigurationFile.parse(yaml, name: "f") == [
                "tls_certificate": "c.pem", "tls_key": "k.pem", "history_size": "5", "history_ttl": "2h",
                "allowed_origins": "https://a.example,https://b.example:8443", "api_key": "007", "redis_url": "",
            ])
        let json = #"{"port": 9000, "insecure_dev": true, "history": {"size": 7}}"#
        #expect(
            try ConfigurationFile.parse(json, name: "f") == [
                "port": "9000", "insecure_dev": "true", "history_size": "7",
            ])
        #expect(try ConfigurationFile.parse("", name: "f").isEmpty)
    }

    @Test(arguments: [
        ("prot: 1", "unknown key 'prot'; is it 'port'?"), ("something_else: 1", "unknown key 'something_else'"),
        ("- a\n- b", "no list of settings"), ("just text", "no list of settings"), ("a: [", "malformed"),
        ("port: 1\nport: 2", "port"), ("history: {size: 1}\nhistory_size: 2", "twice"), ("port: [{a: 1}]", "no text"),
    ])
    func aWrongFileIsToldInOneLine(content: String, message: String) throws {
        let error = #expect(throws: ConfigurationError.self) { try ConfigurationFile.parse(content, name: "f.yaml") }
        let text = try #require(error).description
        #expect(text.contains(message) && text.contains("f.yaml") && !text.contains("\n"), "\(text)")
    }

    @Test(arguments: [
        (["--port", "70000"], "port: '70000' is not a whole number from 0 to 65535 (set by --port, FANFARE_PORT"),
        (["--port", "http"], "port: 'http'"), (["--host", "no host"], "host: 'no host'"),
        (["--redis-url", "nonsense"], "redis_url: its value"), (["--redis-url", "http://127.0.0.1"], "redis_url"),
        (["--redis-url", "redis://"], "redis_url"), (["--database-url", "mysql://x"], "database_url"),
        (["--database-url", "nonsense"], "database_url"), (["--config", "no-such-file.yaml"], "no-such-file.yaml"),
        (["--jwks", "no-such-file.json"], "jwks: 'no-such-file.json' is not a file"),
        (["--jwks", "ftp://x/y"], "jwks"), (["--log-level", "loudly"], "LOG_LEVEL is 'loudly'"),
        (["--log-format", "xml"], "LOG_FORMAT"), (["--ping-interval", "1", "--pong-timeout", "1"], "not shorter"),
        (["--ping-interval", "soon"], "a time from 50ms to 1d"), (["--data-bytes", "1MiB"], "above message_bytes"),
        (["--message-bytes", "5"], "a size from 1024"), (["--weight", "0"], "from 1 to 100"),
        (["--tls-certificate", "/dev/null"], "tls_certificate: this version does not serve TLS"),
        (["--tls-key", "none.pem"], "tls_key: this version does not serve TLS"),
        (["--session-rate", "0"], "session_rate: '0' is not a whole number from 1"),
        (["--connect-rate", "x"], "connect_rate"),
        (["--allowed-origins", "example.org"], "allowed_origins"), (["--node-name", "a b"], "node_name"),
        (["--address", "here"], "address"), (["--redis-prefix", "{x}"], "redis_prefix"),
        (["--history-ttl", "40d", "--position-ttl", "2d"], "shorter than history_ttl"),
        (["--otlp-endpoint", "x"], "otlp_endpoint"),
        (["--event-retention", "30d"], "event_retention (30d) is shorter than inbox_retention (90d)"),
        (["--inbox-retention", "0", "--event-retention", "30d"], "inbox_retention keeps entries for ever"),
        (["--inbox-retention", "0.1"], "inbox_retention is shorter than 1s"), (["--inbox-limit", "0"], "inbox_limit"),
    ])
    func wrongValuesAreToldInOneLine(arguments: [String], message: String) throws {
        let error = #expect(throws: ConfigurationError.self) { try self.read(arguments) }
        let text = try #require(error).description
        #expect(text.contains(message) && !text.contains("\n"), "\(text)")
    }

    @Test func secretsAreNotRepeatedInErrors() throws {
        let error = #expect(throws: ConfigurationError.self) {
            try self.read(["--database-url", "mysql://u:hunter2@h"])
        }
        #expect(try #require(error).description.contains("hunter2") == false)
    }

    @Test func keysAreNeededUnlessInsecure() throws {
        func read(_ arguments: [String]) throws -> ServeConfiguration {
            try ServeConfiguration.read(
                commandLine: ServeOptions.parse(arguments).values, environment: [:], machine: self.machine)
        }
        #expect(throws: ConfigurationError.self) { try read([]) }
        let insecure = try read(["--insecure-dev"])
        #expect(insecure.isInsecure && insecure.tokenSecret == nil && insecure.warnings.count == 1)
        #expect(try read(["--jwks", "https://id.example/keys"]).jwks == .url("https://id.example/keys"))
        #expect(try read(["--jwks", "/dev/null"]).jwks == .file("/dev/null"))
        #expect(try read(["--token-secret", "short"]).warnings.count == 1)
    }

    @Test func limitsOfTheDurableLane() throws {
        let limits = try self.read([
            "--muted-streamers", "7", "--scheduled-events", "0", "--notification-ttl", "1h",
        ]).limits
        #expect(limits.mutedStreamers == 7 && limits.scheduledEvents == 0 && limits.notificationTime == .seconds(3600))
        for wrong in [
            ["--muted-streamers", "10001"], ["--muted-streamers", "many"], ["--scheduled-events", "1000001"],
            ["--notification-ttl", "0"], ["--notification-ttl", "367d"],
        ] {
            #expect(throws: ConfigurationError.self) { try self.read(wrong) }
        }
    }

    @Test func valuesArrive() throws {
        let configuration = try self.read(
            [
                "--host", "::1", "--port", "0", "--redis-url", "redis://u:p@h:1/2", "--database-url",
                "host=/run/postgresql dbname=x", "--ping-interval", "1", "--pong-timeout", "0.5", "--queue-bytes",
                "2MiB", "--allowed-origins", "https://a.example, *",
            ], ["LOG_LEVEL": "debug", "LOG_FORMAT": "text", "FANFARE_API_KEY": "k", "FANFARE_ACCOUNTS": "yes"])
        #expect(configuration.address == "http://[::1]:0" && configuration.redisURL == "redis://u:p@h:1/2")
        #expect(configuration.limits.pingInterval == .seconds(1))
        #expect(configuration.limits.pongTimeout == .milliseconds(500) && configuration.limits.queueBytes == 2 << 20)
        #expect(configuration.allowedOrigins == ["https://a.example", "*"])
        #expect(configuration.log.level == .debug && configuration.log.format == .text)
        #expect(configuration.apiKey == "k" && configuration.hasAccounts)
        #expect(configuration.limits.inboxRetention == .seconds(90 * 86_400))
        // Events are kept as long as entries, where nothing else is said.
        let long = try self.read(["--inbox-retention", "500d"]).limits
        #expect(long.eventRetention == long.inboxRetention && long.eventRetention == .seconds(500 * 86_400))
        let ever = try self.read(["--inbox-retention", "0"]).limits
        #expect(ever.inboxRetention == nil && ever.eventRetention == nil)
        // A short interval alone needs no second option.
        #expect(try self.read(["--ping-interval", "2"]).limits.pongTimeout == .seconds(1))
    }

    @Test(
        arguments: [
            ("25", Duration.seconds(25)), ("0.5", .milliseconds(500)), ("500ms", .milliseconds(500)),
            ("5 m", .seconds(300)),
            ("1h", .seconds(3600)), ("30d", .seconds(2_592_000)), ("", nil), ("-1", nil), ("5y", nil), ("1e9", nil),
            ("99999999999", nil), ("s", nil),
        ] as [(String, Duration?)])
    func durations(text: String, value: Duration?) { #expect(Quantity.duration(text) == value) }

    @Test(
        arguments: [
            ("65536", 65536), ("64KiB", 65536), ("1MiB", 1 << 20), ("1.5k", 1536), ("2 GB", 2 << 30), ("1.5", nil),
            ("x", nil),
            ("-4", nil), ("9999999999999999", nil),
        ] as [(String, Int?)])
    func sizes(text: String, value: Int?) { #expect(Quantity.bytes(text) == value) }
}
