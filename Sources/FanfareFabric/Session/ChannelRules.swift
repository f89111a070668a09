package import FanfareModel

/// Who may do what in which channel (docs/protocol.md, channels).
package enum ChannelRules {
    /// Also: read history and presence.
    package static func maySubscribe(_ user: UserID, to channel: Channel) -> Bool {
        switch channel.kind {
        case .room, .stream: true
        case .user(let owner): owner == user
        case .direct(let first, let second): user == first || user == second
        }
    }

    package static func mayPublish(_ user: UserID, to channel: Channel) -> Bool {
        switch channel.kind {
        case .room: !user.isAnonymous
        case .direct(let first, let second): user == first || user == second
        case .user, .stream: false
        }
    }
}
