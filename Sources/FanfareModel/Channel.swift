/// A channel's name, parsed: what may be done with it follows from its kind.
package struct Channel: Hashable, Sendable, CustomStringConvertible {
    package enum Kind: Hashable, Sendable {
        /// `room:<id>`: anyone subscribes, users with a token publish.
        case room
        /// `user:<id>`: the user's own channel, recovered from the inbox.
        case user(UserID)
        /// `dm:<a>:<b>`, a < b: two users, durable history.
        case direct(UserID, UserID)
        /// `stream:<id>`: written by the server alone.
        case stream
    }

    /// The longest name accepted, in bytes.
    package static let maximumLength = 255

    package let name: String
    package let kind: Kind

    /// - Throws: `.badRequest` for a name that is too long, not printable ASCII, or malformed within a known kind;
    ///   `.unknownChannel` where there is no such kind.
    package init(_ name: String) throws(FanfareError) {
        guard name.utf8.count <= Channel.maximumLength else {
            throw .badRequest("channel name is longer than \(Channel.maximumLength) bytes")
        }
        guard name.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw .badRequest("channel name has a character that is not printable ASCII")
        }
        let parts = name.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { throw .unknownChannel }
        switch parts[0] {
        case "room", "stream":
            guard !parts[1].isEmpty else { throw .badRequest("channel name has an empty id") }
            self.kind = parts[0] == "room" ? .room : .stream
        case "user":
            guard let user = UserID(String(parts[1])) else { throw .badRequest("channel name has no legal user id") }
            self.kind = .user(user)
        case "dm":
            let users = parts[1].split(separator: ":", omittingEmptySubsequences: false)
            guard users.count == 2, let first = UserID(String(users[0])), let second = UserID(String(users[1])) else {
                throw .badRequest("a dm channel names two users: dm:<a>:<b>")
            }
            guard first < second else {
                throw .badRequest("the users of a dm channel stand in ascending order and differ")
            }
            self.kind = .direct(first, second)
        default:
            throw .unknownChannel
        }
        self.name = name
    }

    package static func user(_ user: UserID) -> Channel { Channel(name: "user:\(user)", kind: .user(user)) }

    private init(name: String, kind: Kind) {
        self.name = name
        self.kind = kind
    }

    package var slot: Slot { Slot(of: self.name) }
    package var description: String { self.name }
    package static func == (left: Channel, right: Channel) -> Bool { left.name == right.name }
    package func hash(into hasher: inout Hasher) { hasher.combine(self.name) }
}
