/// The bytes of a payload or a frame.
package typealias Bytes = [UInt8]

/// A user's id: 1–64 characters of `A–Z a–z 0–9 _ . -`. The empty id stands for an anonymous viewer.
package struct UserID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: String

    /// Nobody in particular: a viewer without a token.
    package static var anonymous: UserID { UserID(unchecked: "") }

    /// - Returns: nil where `rawValue` is no legal user id.
    package init?(_ rawValue: String) {
        guard UserID.isValid(rawValue.utf8) else { return nil }
        self.rawValue = rawValue
    }

    /// For ids that were validated before they were stored.
    package init(unchecked rawValue: String) { self.rawValue = rawValue }

    package var isAnonymous: Bool { self.rawValue.isEmpty }
    package var description: String { self.rawValue }

    package static func < (left: UserID, right: UserID) -> Bool { left.rawValue < right.rawValue }

    package static func isValid(_ characters: some Collection<UInt8>) -> Bool {
        (1...64).contains(characters.count)
            && characters.allSatisfy { character in
                switch character {
                case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "-"):
                    true
                default: false
                }
            }
    }
}

/// A user's number in the database, given when the user was first named: what inboxes, follows and the knowledge of who is
/// online are keyed by. A user without a database has none.
package struct UserKey: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: Int64
    package init(_ rawValue: Int64) { self.rawValue = rawValue }
    package var description: String { String(self.rawValue) }
    package static func < (left: UserKey, right: UserKey) -> Bool { left.rawValue < right.rawValue }
}

/// A node's name, unique in the cluster.
package struct NodeID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: String
    package init(_ rawValue: String) { self.rawValue = rawValue }
    package var description: String { self.rawValue }
    package static func < (left: NodeID, right: NodeID) -> Bool { left.rawValue < right.rawValue }
}

/// The id of one client connection (a UUID in lower case).
package struct ClientID: Hashable, Sendable, CustomStringConvertible {
    package let rawValue: String
    package init(_ rawValue: String) { self.rawValue = rawValue }
    package var description: String { self.rawValue }
}

/// The id of an event in the durable log.
package struct EventID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: Int64
    package init(_ rawValue: Int64) { self.rawValue = rawValue }
    package var description: String { String(self.rawValue) }
    package static func < (left: EventID, right: EventID) -> Bool { left.rawValue < right.rawValue }
}
