package import FanfareEngines
package import FanfareModel
import FanfareProtocol

/// What one node asks of another.
package enum PeerRequest: Sendable, Hashable {
    case publish(room: String, AppendEntry)
    case history(room: String, HistoryFilter)
    case removeHistory(room: String)
    case presence(channel: String)
    case presenceStats(channel: String)
    case channels(pattern: String?)
    case info
    case sessions(SessionCommand)
    /// Committed rows, for those of their users who have sessions on the node: the node answers who had none.
    case inboxPushes([FanoutPush], [PushLink])
    /// Pushes to users of these shards may have been lost: their sessions compare their inboxes.
    case doubtInboxes([Shard])
    case onlineAnnouncements([OnlineAnnouncement])
    case onlineDigests([OnlineDigest])
    case notice(InboxPush, user: UserID, except: ClientID?)
    /// The user's sessions ask for the new preferences, and are given the notice.
    case preferencesChanged(InboxPush, user: UserID, except: ClientID?)
    case wakeShards([Shard])
    /// Leave in peace, and end.
    case drain
}

/// Something that every node does to the sessions of a user.
package struct SessionCommand: Sendable, Hashable {
    package enum Action: Sendable, Hashable {
        /// `info` for presence and `data` for the client's push: raw JSON, empty where there is none.
        case subscribe(channel: String, recoverSince: StreamPosition?, info: Bytes, data: Bytes)
        case unsubscribe(channel: String)
        case disconnect(Disconnect)
        case refresh(SessionRefresh)
    }
    package var sessions: SessionSelector
    package var action: Action
}

package enum PeerResponse: Sendable, Hashable {
    case published(AppendedEntry)
    case history(RoomHistory)
    case done
    case presence([ClientInfo])
    /// Clients, and a hash of each of their users.
    case presenceStats(clients: Int, users: [UInt64])
    case channels([String: Int])
    case info(NodeInfo)
    /// For each push the users who had no session there.
    case missed([[UserKey]])
    case online(OnlineAnswer)
    case refused(RoomRefusal)
}
