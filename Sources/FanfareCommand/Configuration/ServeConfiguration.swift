package import FanfareObservability

/// Everything that `fanfare serve` was told, validated.
package struct ServeConfiguration: Sendable {
    package enum KeySet: Sendable, Hashable {
        case file(String)
        case url(String)
    }

    package var host = "127.0.0.1"
    package var port = 8000
    package var nodeName = ""
    /// For operators: `http://host:port`.
    package var address = ""
    package var weight = 1
    package var loops = 1

    /// Nil: one node with the in-memory broker.
    package var redisURL: String?
    package var redisPrefix = "ff"
    /// Nil: no durable features.
    package var databaseURL: String?
    package var databaseConnections = 5
    package var fanoutConnections = 3

    package var tokenSecret: String?
    package var jwks: KeySet?
    /// Neither of the two is needed.
    package var isInsecure = false
    /// Nil: the server API is off.
    package var apiKey: String?
    package var eventSubSecret: String?
    package var hasAccounts = false
    /// Empty: the node's own origin alone. `*`: all.
    package var allowedOrigins: [String] = []

    package var log = LogConfiguration()
    package var otlpEndpoint: String?
    package var serviceName = "fanfare"

    package var limits = Limits()
    /// Settings that work and are unwise: for the log.
    package var warnings: [String] = []

    package struct Limits: Sendable, Hashable {
        package var connections = 100_000
        package var messageBytes = 131_072
        package var dataBytes = 65_536
        package var channelsPerSession = 128
        package var commandsPerSession = 1024
        /// Commands a second of one session; nil: the default, and none for clients on this machine.
        package var commandRate: Int?
        package var commandBurst = 5000
        /// WebSocket connects a second from one address; nil: the default, and none for clients on this machine.
        package var connectRate: Int?
        package var connectBurst = 100
        package var queueBytes = 1 << 20
        package var pingInterval: Duration = .seconds(25)
        package var pongTimeout: Duration = .seconds(8)
        package var staleTimeout: Duration = .seconds(15)
        package var expiryGrace: Duration = .seconds(25)

        package var historySize = 300
        package var historyBytes = 8 << 20
        package var historyTime: Duration = .seconds(3600)
        package var positionTime: Duration = .seconds(30 * 86_400)
        package var emptyRoomTime: Duration = .seconds(600)
        package var idempotencyWindow: Duration = .seconds(300)
        package var idempotencyKeys = 1_000_000
        package var ownedRooms = 100_000
        package var slotQueue = 20_000
        package var slotQueueBytes = 32 << 20
        package var roomRequests = 50_000
        package var inboxRecovery = 300
        package var databaseQueue = 256
        package var databaseQueueTime: Duration = .seconds(2)
        package var statementTimeout: Duration = .seconds(10)
        package var requestTimeout: Duration = .seconds(4)
        /// Nil: the fan-out does not give way.
        package var readTarget: Duration? = .milliseconds(50)
        package var deadLetterLimit = 100_000
        package var deadLetterTime: Duration = .seconds(30 * 86_400)
        package var mutedStreamers = 1000
        package var scheduledEvents = 100_000
        /// The longest that a notification may ask to be worth a push.
        package var notificationTime: Duration = .seconds(30 * 86_400)
        /// Nil: for ever.
        package var inboxRetention: Duration? = .seconds(90 * 86_400)
        package var inboxLimit = 10_000
        /// Nil: for ever.
        package var eventRetention: Duration? = .seconds(365 * 86_400)
        package var broadcastThreshold = 100_000
        package var holdOff: Duration = .seconds(30)
        package var onlineFirst = 128
        /// Nil: unbounded.
        package var fanoutRate: Int?
        package var fanoutRates: [String: Int] = [:]
        package var fanoutPriorities: [String: Int] = [:]
        package var inboxHeld = 1000
        package var onlineUsers = 50_000
        package var onlineChanges = 2000
        package var heldBytes = 1 << 20

        package var heartbeatLease: Duration = .seconds(3)
        package var drainDeadline: Duration = .seconds(8)
    }

    package init() {}
}
