import CLibPQ
package import FanfareCore
import FanfareModel

/// Where the database is, and the bounds of everything that is asked of it.
package struct PostgresConfiguration: Sendable {
    package struct InvalidURL: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    /// What libpq is told. Holds the password: never shown.
    let keywords: [(name: String, value: String)]

    package var applicationName = "fanfare"
    /// For one attempt to connect. libpq counts in seconds, from 2.
    package var connectTimeout: Duration = .seconds(3)
    /// Kept by the server for every statement. The client cuts the link when no answer came one second later.
    package var statementTimeout: Duration = .seconds(10)
    /// Where a user waits for the answer; not above `statementTimeout`.
    package var requestTimeout: Duration = .seconds(4)
    package var lockTimeout: Duration = .seconds(3)
    package var idleInTransactionTimeout: Duration = .seconds(15)
    /// Bytes sent and not acknowledged by the peer's system for this long mean a dead link.
    package var unacknowledgedTimeout: Duration = .seconds(5)

    /// Connections for what users wait for. Default 5, at least 1.
    package var requestConnections = 5
    /// Connections for the fan-out, apart from the others, so that it cannot starve readers. Default 3, at least 1.
    package var fanoutConnections = 3
    /// Callers that may wait for a connection, per pool.
    package var queueLimit = 256
    /// How long a caller waits for a connection.
    package var queueTimeout: Duration = .seconds(2)
    /// Whether bulk work of the fan-out gives way where readers wait too long.
    package var bulkGivesWay = true
    /// How; the maximum is the number of the fan-out's connections.
    package var bulkLimit = ConcurrencyLimit.Configuration()
    /// How often idle connections are tried.
    package var probeInterval: Duration = .seconds(2)
    /// How long the answer to such a trial may take: a server that hangs is found by it.
    package var probeTimeout: Duration = .seconds(2)
    /// Whether the schema is brought up to date on the first connection. Otherwise an older schema is refused.
    package var migrates = true

    /// Recipients up to which an event is written whole, by each of its shards at once. Above, there are jobs, which go on
    /// chunk by chunk.
    package var directRecipients = 2000
    /// Followers from whom on an event is written once for each shard, and read together with the inbox. 0: never.
    package var broadcastThreshold = 100_000
    /// Streamers that one user can have muted within a day. A session reads them all.
    package var mutedStreamersLimit = 1000
    /// Scheduled events that wait at the most.
    package var scheduledEventsLimit = 100_000
    /// Events that one look for those of a kind goes through at the most, where no index leads to them.
    package var eventsSearched = 100_000
    /// Users of each shard who hear of an event above `directRecipients` before the others.
    package var ahead = AheadLimits(users: 128)
    /// How long after its start a stream that ended goes on when it is started again, without another event.
    package var holdOff: Duration = .seconds(30)
    /// Inbox rows per second that the whole cluster may write; nil: as fast as it goes.
    package var fanoutRate: Int?
    /// The same for each of these types of events.
    package var fanoutRates: [String: Int] = [:]
    /// Events of these types go before others whose priority is lower; 0 is usual.
    package var fanoutPriorities: [String: Int] = [:]
    /// Attempts of a fan-out job that fail for now, before it becomes a dead letter.
    package var jobAttempts = 8
    /// Rows of one job that may fail for good one by one, before the whole job becomes a dead letter.
    package var jobRowFailures = 1000
    /// The first delay of a job that is set aside, and the longest.
    package var jobBackoff: (base: Duration, cap: Duration) = (.milliseconds(500), .seconds(60))

    /// Dead letters that are kept. Above it those that are settled are forgotten, oldest first; where as many wait, the
    /// oldest are discarded.
    package var deadLetterLimit = 100_000
    /// How long a dead letter is kept after it was replayed or discarded.
    package var deadLetterTime: Duration = .seconds(30 * 86_400)

    /// How long inbox entries are kept at the least; nil: for ever. They go a partition at a time.
    package var inboxRetention: Duration? = .seconds(90 * 86_400)
    /// Entries that an inbox shows and counts: its newest.
    package var inboxLimit = 10_000
    /// How long events are kept at the least, and until no inbox has them any more; nil: for ever. How many there were stays
    /// known.
    package var eventRetention: Duration? = .seconds(365 * 86_400)
    /// How long one partition takes what comes; nil: a sixth of the time that it is kept, 30 days at the most.
    package var partitionPeriod: Duration?
    /// Whether the store looks after partitions by itself, now and then. Otherwise it waits to be told.
    package var tendsPartitions = true

    /// - Parameter url: `postgres://user@host:port/database?…` or libpq's `keyword=value …`.
    /// - Throws: a message that never repeats the text, which may hold a password.
    package init(url: String) throws(InvalidURL) {
        let text = url.trimmingASCIISpace()
        guard !text.isEmpty else { throw InvalidURL(description: "the database URL is empty") }
        guard !text.utf8.contains(0) else { throw InvalidURL(description: "the database URL has a NUL character") }
        if let scheme = text.range(of: "://") {
            let name = text[..<scheme.lowerBound]
            // A keyword string may hold `://` too, within a value: there a `=` comes first.
            guard name.contains("=") || name == "postgres" || name == "postgresql" else {
                throw InvalidURL(description: "the database URL does not begin with postgres:// or postgresql://")
            }
        }
        var problem: UnsafeMutablePointer<CChar>?
        guard let options = PQconninfoParse(text, &problem) else {
            PQfreemem(problem)
            throw InvalidURL(
                description: "the database URL is malformed: expected postgres://user:password@host:port/database "
                    + "or keyword=value pairs as psql takes them")
        }
        defer { PQconninfoFree(options) }
        var keywords: [(name: String, value: String)] = []
        var option = options
        while let keyword = option.pointee.keyword {
            if let value = option.pointee.val {
                keywords.append((String(cString: keyword), String(cString: value)))
            }
            option += 1
        }
        for keyword in keywords where keyword.name == "port" {
            for port in keyword.value.split(separator: ",") {
                guard let number = Int(port), (1...65_535).contains(number) else {
                    throw InvalidURL(description: "the database URL has an invalid port")
                }
            }
        }
        self.keywords = keywords
    }

    /// Host, port and database, for logs.
    package var address: String {
        func value(_ name: String, _ otherwise: String) -> String {
            self.keywords.first { $0.name == name }?.value ?? otherwise
        }
        return value("host", value("hostaddr", "local")) + ":" + value("port", "5432") + "/"
            + value("dbname", value("user", ""))
    }

    /// All that libpq is told: what the URL says, and our defaults where it is silent.
    var connectionParameters: [(name: String, value: String)] {
        var parameters = self.keywords.filter { $0.name != "options" }
        func setUnlessGiven(_ name: String, _ value: String) {
            if !parameters.contains(where: { $0.name == name }) { parameters.append((name, value)) }
        }
        setUnlessGiven("connect_timeout", String(max(2, self.connectTimeout.milliseconds / 1000)))
        setUnlessGiven("keepalives", "1")
        setUnlessGiven("keepalives_idle", "5")
        setUnlessGiven("keepalives_interval", "2")
        setUnlessGiven("keepalives_count", "3")
        setUnlessGiven("tcp_user_timeout", String(self.unacknowledgedTimeout.milliseconds))
        setUnlessGiven("application_name", self.applicationName)
        setUnlessGiven("target_session_attrs", "read-write")
        setUnlessGiven("client_encoding", "UTF8")
        var options = [
            "statement_timeout=\(self.statementTimeout.milliseconds)",
            "lock_timeout=\(self.lockTimeout.milliseconds)",
            "idle_in_transaction_session_timeout=\(self.idleInTransactionTimeout.milliseconds)",
            "client_connection_check_interval=2000",
            "default_transaction_isolation=read\\ committed",
            "jit=off",
        ].map { "-c " + $0 }
        // The user's come last: the last one wins.
        options += self.keywords.filter { $0.name == "options" }.map(\.value)
        parameters.append(("options", options.joined(separator: " ")))
        return parameters
    }
}

extension String {
    fileprivate func trimmingASCIISpace() -> String {
        let isSpace: (Character) -> Bool = { $0 == " " || $0 == "\t" || $0 == "\n" || $0 == "\r" || $0 == "\r\n" }
        guard let first = self.firstIndex(where: { !isSpace($0) }), let last = self.lastIndex(where: { !isSpace($0) })
        else { return "" }
        return String(self[first...last])
    }

    /// The standard library's, without Foundation.
    fileprivate func range(of text: String) -> Range<String.Index>? {
        self.firstRange(of: text)
    }
}
