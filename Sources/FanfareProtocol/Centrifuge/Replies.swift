package import FanfareModel

/// The answer to the command with the same id.
package struct Reply: Hashable, Sendable {
    package var id: UInt32
    package var body: ReplyBody

    package init(id: UInt32, body: ReplyBody) {
        self.id = id
        self.body = body
    }
}

package enum ReplyBody: Hashable, Sendable {
    case error(FanfareError)
    case connect(ConnectResult)
    case subscribe(SubscribeResult)
    case unsubscribe
    case publish
    /// Written as a map by client id, in the order given.
    case presence([ClientInfo])
    case presenceStats(clients: UInt32, users: UInt32)
    case history(HistoryPage)
    /// `data` is raw JSON; empty writes a result without data.
    case rpc(data: Bytes)
    /// `ttl` in seconds, never 0 where `expires`: clients would refresh in a loop.
    case refresh(client: ClientID?, version: String, expires: Bool, ttl: UInt32)
    case subRefresh(expires: Bool, ttl: UInt32)
}

package struct ConnectResult: Hashable, Sendable {
    package var client: ClientID
    package var version: String
    /// Whether the client must refresh its token, and in how many seconds (never 0 where `expires`).
    package var expires: Bool
    package var ttl: UInt32
    /// Raw JSON; empty where there is none.
    package var data: Bytes
    /// The server-side subscriptions by channel. Written in the order of the names.
    package var subs: [String: SubscribeResult]
    /// The interval of server pings in seconds; 0 for none.
    package var ping: UInt32
    /// Whether the client must answer pings.
    package var pong: Bool
    /// Set for unidirectional and emulated transports alone.
    package var session: String
    package var node: String
    /// The server's clock in milliseconds since 1970; 0 for none.
    package var time: Int64

    package init(
        client: ClientID, version: String = "", expires: Bool = false, ttl: UInt32 = 0, data: Bytes = [],
        subs: [String: SubscribeResult] = [:], ping: UInt32 = 0, pong: Bool = false, session: String = "",
        node: String = "", time: Int64 = 0
    ) {
        self.client = client
        self.version = version
        self.expires = expires
        self.ttl = ttl
        self.data = data
        self.subs = subs
        self.ping = ping
        self.pong = pong
        self.session = session
        self.node = node
        self.time = time
    }
}

package struct SubscribeResult: Hashable, Sendable {
    /// Whether the client must refresh the subscription's token, and in how many seconds (never 0 where `expires`).
    package var expires: Bool
    package var ttl: UInt32
    package var recoverable: Bool
    package var epoch: String
    /// Recovered publications, by ascending offset.
    package var publications: [Publication]
    package var recovered: Bool
    /// The requested offset where recovered, else the stream's top.
    package var offset: UInt64
    package var positioned: Bool
    /// Raw JSON; empty where there is none.
    package var data: Bytes
    package var wasRecovering: Bool
    package var delta: Bool

    package init(
        expires: Bool = false, ttl: UInt32 = 0, recoverable: Bool = false, epoch: String = "",
        publications: [Publication] = [], recovered: Bool = false, offset: UInt64 = 0, positioned: Bool = false,
        data: Bytes = [], wasRecovering: Bool = false, delta: Bool = false
    ) {
        self.expires = expires
        self.ttl = ttl
        self.recoverable = recoverable
        self.epoch = epoch
        self.publications = publications
        self.recovered = recovered
        self.offset = offset
        self.positioned = positioned
        self.data = data
        self.wasRecovering = wasRecovering
        self.delta = delta
    }
}

/// What the server sends unasked. Goes with the name of its channel, which is empty for `message`, `connect`,
/// `disconnect` and `refresh`.
package enum Push: Hashable, Sendable {
    case publication(Publication)
    case join(ClientInfo)
    case leave(ClientInfo)
    case unsubscribe(Unsubscription)
    /// Raw JSON outside of any channel.
    case message(Bytes)
    /// A server-side subscription was added.
    case subscribe(SubscribePush)
    /// Unidirectional transports alone.
    case connect(ConnectResult)
    /// Unidirectional and emulated transports alone: a WebSocket gets a close frame.
    case disconnect(Disconnect)
    case refresh(expires: Bool, ttl: UInt32)
}

package struct SubscribePush: Hashable, Sendable {
    package var recoverable: Bool
    package var position: StreamPosition
    package var positioned: Bool
    /// Raw JSON; empty where there is none.
    package var data: Bytes

    package init(
        recoverable: Bool = false, position: StreamPosition = StreamPosition(offset: 0, epoch: ""),
        positioned: Bool = false, data: Bytes = []
    ) {
        self.recoverable = recoverable
        self.position = position
        self.positioned = positioned
        self.data = data
    }
}
