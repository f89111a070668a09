package import FanfareModel

/// What a client asks for. Ids are chosen by the client, start at 1 and are unique per connection.
package struct Command: Hashable, Sendable {
    /// 0 for `send` without an id and for `pong`.
    package var id: UInt32
    package var body: CommandBody

    package init(id: UInt32, body: CommandBody) {
        self.id = id
        self.body = body
    }
}

/// Channel names are never empty here: the decoder answers such a command with `Disconnect.badRequest`.
package enum CommandBody: Hashable, Sendable {
    case connect(ConnectRequest)
    case subscribe(SubscribeRequest)
    case unsubscribe(channel: String)
    /// `data` is empty where the client sent none.
    case publish(channel: String, data: Bytes)
    case presence(channel: String)
    case presenceStats(channel: String)
    case history(channel: String, filter: HistoryFilter)
    case rpc(method: String, data: Bytes)
    /// A one-way message: no reply, whatever happens.
    case send(data: Bytes)
    case refresh(token: String)
    case subRefresh(channel: String, token: String)
    /// The answer to a ping: the empty command.
    case pong
    /// A well-formed command that is answered with this error, whatever the session's state.
    case refused(FanfareError)
}

package struct ConnectRequest: Hashable, Sendable {
    /// The connection token; empty for an anonymous viewer.
    package var token: String
    /// Raw JSON (any bytes from a protobuf client); empty where there is none.
    package var data: Bytes
    /// Positions of server-side subscriptions to recover, by channel.
    package var subs: [String: RecoverRequest]
    /// The kind of client, for example `js`, and its version: for people and metrics, not trusted.
    package var name: String
    package var version: String

    package init(
        token: String = "", data: Bytes = [], subs: [String: RecoverRequest] = [:], name: String = "",
        version: String = ""
    ) {
        self.token = token
        self.data = data
        self.subs = subs
        self.name = name
        self.version = version
    }
}

/// From where a server-side subscription is to be recovered.
package struct RecoverRequest: Hashable, Sendable {
    package var recover: Bool
    package var offset: UInt64
    /// Empty matches any epoch.
    package var epoch: String

    package init(recover: Bool = false, offset: UInt64 = 0, epoch: String = "") {
        self.recover = recover
        self.offset = offset
        self.epoch = epoch
    }
}

package struct SubscribeRequest: Hashable, Sendable {
    /// Value of `flag`: answer a failed recovery with error 112 instead of a result.
    package static let rejectUnrecovered: Int64 = 2

    package var channel: String
    package var token: String
    package var recover: Bool
    package var offset: UInt64
    /// Empty matches any epoch.
    package var epoch: String
    /// Raw JSON (any bytes from a protobuf client); empty where there is none.
    package var data: Bytes
    /// Wishes, which the server may grant or drop silently.
    package var positioned: Bool
    package var recoverable: Bool
    package var joinLeave: Bool
    /// Whether `fossil` deltas were asked for.
    package var delta: Bool
    /// Whether a tag filter (`tf`) came along.
    package var hasTagFilter: Bool
    package var flag: Int64
    /// Other than 0: a map subscription.
    package var type: Int32

    package init(
        channel: String, token: String = "", recover: Bool = false, offset: UInt64 = 0, epoch: String = "",
        data: Bytes = [], positioned: Bool = false, recoverable: Bool = false, joinLeave: Bool = false,
        delta: Bool = false, hasTagFilter: Bool = false, flag: Int64 = 0, type: Int32 = 0
    ) {
        self.channel = channel
        self.token = token
        self.recover = recover
        self.offset = offset
        self.epoch = epoch
        self.data = data
        self.positioned = positioned
        self.recoverable = recoverable
        self.joinLeave = joinLeave
        self.delta = delta
        self.hasTagFilter = hasTagFilter
        self.flag = flag
        self.type = type
    }

    package var rejectsUnrecovered: Bool { self.flag & SubscribeRequest.rejectUnrecovered != 0 }
}
