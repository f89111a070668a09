/// Limits and times of client connections.
package struct ConnectionOptions: Sendable, Hashable {
    /// WebSocket connections at once; more are answered 503. Default 100 000.
    package var maximumConnections = 100_000
    /// Connections at once whose request has not arrived yet; more are answered 503 unread. Default 10 000.
    package var maximumPending = 10_000
    /// HTTP connections at once (server API, pages, event streams); more are answered 503 unread. Default 4096.
    package var maximumHTTPConnections = 4096
    /// WebSocket connects a second from one address (an IPv4 address, an IPv6 /64), and how many at once; beyond: 429.
    /// Default 20 and 100.
    package var connectsPerAddress: Double = 20
    package var connectBurstPerAddress: Double = 100
    /// Addresses remembered at once. Default 65 536.
    package var maximumTrackedAddresses = 65_536
    /// Whether connects from this machine are free of the rate limit. Default true.
    package var loopbackIsFree = true
    /// How long a connection may take to say what it wants, handshake included. Default 10 s.
    package var handshakeTimeout: Duration = .seconds(10)
    /// Bytes of a request's head. Default 16 KiB.
    package var maximumRequestHead = 16 << 10
    /// Bytes of a client's message, reassembled; above it closes with 1009. Default 128 KiB.
    package var maximumMessage = 128 << 10
    /// Bytes queued for a client that does not take them; above it is cut with 3008 "slow". Default 1 MiB.
    package var maximumQueuedBytes = 1 << 20
    /// How long a client may take nothing at all while bytes are queued; then it is cut with 3009. Default 10 s.
    package var writeTimeout: Duration = .seconds(10)
    /// How long the close frame may take to be answered. Default 3 s.
    package var closeTimeout: Duration = .seconds(3)
    /// Origins of browsers that may connect; empty allows the host's own alone, `*` allows any.
    package var allowedOrigins: [String] = []
    /// Connections that wait in the kernel for being accepted. Default 4096.
    package var backlog: Int32 = 4096

    package init() {}
}
