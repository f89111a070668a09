package import FanfareCore
package import FanfareEngines
package import FanfareModel
package import Logging

/// What a session asks of the node beyond `NodeOperations`.
package protocol SessionBackend: NodeOperations {
    /// Runs a method of the application's vocabulary (`follow`, `start_stream` …) under the caller's identity.
    /// - Returns: raw JSON.
    func call(method: String, data: Bytes, caller: Caller) async throws(FanfareError) -> Bytes
    /// Makes the user known to the store; nil where there is no database.
    func identify(_ user: UserID) async throws(FanfareError) -> UserKey?
    /// The inbox after a sequence; nil for the position alone.
    func inbox(of user: UserID, after sequence: UInt64?) async throws(FanfareError) -> InboxTail
    /// What the user's preferences say of pushes.
    func pushPolicy(of user: UserID) async throws(FanfareError) -> PushPolicy
}

package struct SessionLimits: Sendable, Hashable {
    /// Bytes of a publication's `data`.
    package var dataBytes = 65_536
    /// Subscriptions of one session, the server's among them.
    package var channels = 128
    /// Commands of one session that wait for an answer; beyond it they are refused with 111.
    package var commandsUnderWay = 1024
    /// Commands of one session a second, and at once; beyond it they are refused with 111.
    package var commandsPerSecond = 1000
    package var commandBurst = 5000
    /// Whether that rate holds for clients on this machine, too.
    package var pacesLoopback = false
    /// How long a connection may take to send its connect command.
    package var staleTime: Duration = .seconds(15)
    package var pingInterval: Duration = .seconds(25)
    /// Shorter than `pingInterval`.
    package var pongTime: Duration = .seconds(8)
    /// How long after its expiry a connection or subscription may still be refreshed.
    package var expiryGrace: Duration = .seconds(25)
    /// Publications of one user channel that are recovered at the most.
    package var inboxRecovery = 300
    /// Pushes of one session that wait while its position is not certain; beyond it the client is sent away to recover.
    package var inboxHeld = 1000
    /// Bytes that wait for one session while it connects or its inbox is read: of notifications, and of publications in
    /// rooms that the server subscribed it to. Whose waiting takes more comes back and recovers.
    package var heldBytes = 1 << 20

    package init() {}
}

/// What all sessions of a node share: one object, so that a session holds a reference.
package final class SessionServices: Sendable {
    package let node: NodeID
    package let version: String
    package let backend: any SessionBackend
    package let tokens: any TokenVerifier
    package let limits: SessionLimits
    package let surroundings: Surroundings
    package let logger: Logger
    package let metrics: FabricMetrics
    /// False while the node drains: new connections are sent elsewhere.
    package let admits: @Sendable () -> Bool
    let commandRate: Pacer.Rate

    package init(
        node: NodeID, version: String, backend: any SessionBackend, tokens: any TokenVerifier, limits: SessionLimits,
        surroundings: Surroundings, logger: Logger, metrics: FabricMetrics, admits: @escaping @Sendable () -> Bool
    ) {
        self.node = node
        self.version = version
        self.backend = backend
        self.tokens = tokens
        self.limits = limits
        self.surroundings = surroundings
        self.logger = logger
        self.metrics = metrics
        self.admits = admits
        self.commandRate = Pacer.Rate(perSecond: limits.commandsPerSecond, burst: limits.commandBurst)
    }
}
