package import FanfareCore
package import FanfareModel

/// An inbox entry with its event, as users see it.
package struct InboxEntry: Sendable, Hashable {
    /// The sequence in this user's inbox: grows in commit order, with gaps. The offset on `user:<id>`.
    package var sequence: UInt64
    package var event: EventID
    package var type: String
    /// Raw JSON.
    package var data: Bytes
    package var createdAt: Timestamp
    package var isRead: Bool
    /// Put away: listed only where that is asked for.
    package var isArchived: Bool
    /// When it stops being worth a push.
    package var expiresAt: Timestamp?
    /// Whose followers were meant. Known where entries are read to be pushed.
    package var streamer: UserID?
    /// It expired, its stream ended, or the user wants to hear of its streamer no more. As `streamer`.
    package var isStale: Bool

    package init(
        sequence: UInt64, event: EventID, type: String, data: Bytes, createdAt: Timestamp, isRead: Bool,
        isArchived: Bool = false, expiresAt: Timestamp? = nil, streamer: UserID? = nil, isStale: Bool = false
    ) {
        self.sequence = sequence
        self.event = event
        self.type = type
        self.data = data
        self.createdAt = createdAt
        self.isRead = isRead
        self.isArchived = isArchived
        self.expiresAt = expiresAt
        self.streamer = streamer
        self.isStale = isStale
    }
}

package struct InboxQuery: Sendable, Hashable {
    package var user: UserID
    /// 1–200.
    package var limit: Int
    /// Exclusive.
    package var before: UInt64?
    package var unreadOnly: Bool
    /// Those that were archived, and no others; else those that were not.
    package var isArchived: Bool

    package init(
        user: UserID, limit: Int, before: UInt64? = nil, unreadOnly: Bool = false, isArchived: Bool = false
    ) {
        self.user = user
        self.limit = limit
        self.before = before
        self.unreadOnly = unreadOnly
        self.isArchived = isArchived
    }
}

package struct InboxPage: Sendable, Hashable {
    package var entries: [InboxEntry]
    package var unread: Int

    package init(entries: [InboxEntry], unread: Int) {
        self.entries = entries
        self.unread = unread
    }
}

/// Where a user stands.
package struct InboxPosition: Sendable, Hashable {
    /// The highest sequence in the inbox, or below what was asked for; 0 where there is none.
    package var sequence: UInt64
    /// The version of the preferences; 0 where there are none.
    package var preferences: Int64

    package init(sequence: UInt64, preferences: Int64 = 0) {
        self.sequence = sequence
        self.preferences = preferences
    }
}

package struct InboxTail: Sendable, Hashable {
    /// Ascending, after the sequence asked for.
    package var entries: [InboxEntry]
    /// The highest sequence in the inbox; 0 where it is empty.
    package var top: UInt64
    /// There was more than the limit.
    package var isTruncated: Bool
    /// What the user's preferences say of pushes, at that moment.
    package var policy: PushPolicy

    package init(entries: [InboxEntry], top: UInt64, isTruncated: Bool, policy: PushPolicy = PushPolicy()) {
        self.entries = entries
        self.top = top
        self.isTruncated = isTruncated
        self.policy = policy
    }
}

/// What an inbox entry can be marked as.
package enum InboxMark: String, Sendable, Hashable, CaseIterable {
    case read
    case archived
}

/// Entries of one inbox.
package enum InboxSelection: Sendable, Hashable {
    case sequences([UInt64])
    /// Inclusive, with all older.
    case upTo(UInt64)
}

package struct MarkResult: Sendable, Hashable {
    package var unread: Int
    /// How many entries changed.
    package var changed: Int

    package init(unread: Int, changed: Int) {
        self.unread = unread
        self.changed = changed
    }
}
