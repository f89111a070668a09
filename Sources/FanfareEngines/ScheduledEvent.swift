package import FanfareModel

/// An event that is to be accepted at a time, for those who follow then.
package struct ScheduledEvent: Sendable, Hashable {
    package enum State: String, Sendable, Hashable, CaseIterable { case waiting, sent, cancelled }

    package var id: Int64
    package var type: String
    package var dueAt: Timestamp
    package var createdAt: Timestamp
    package var state: State
    /// Whose followers are meant; nil where users are named.
    package var streamer: UserID?
    /// How many users are named.
    package var users: Int
    /// How often it could not be sent.
    package var attempts: Int
    /// The event that it became.
    package var event: EventID?

    package init(
        id: Int64, type: String, dueAt: Timestamp, createdAt: Timestamp, state: State, streamer: UserID?, users: Int,
        attempts: Int, event: EventID?
    ) {
        self.id = id
        self.type = type
        self.dueAt = dueAt
        self.createdAt = createdAt
        self.state = state
        self.streamer = streamer
        self.users = users
        self.attempts = attempts
        self.event = event
    }
}

package struct ScheduledEventFilter: Sendable, Hashable {
    /// Those sent or cancelled, too, for as long as they are kept.
    package var includesSettled: Bool
    /// Ids above this one.
    package var after: Int64
    /// 1–1000.
    package var limit: Int

    package init(includesSettled: Bool = false, after: Int64 = 0, limit: Int = 100) {
        self.includesSettled = includesSettled
        self.after = after
        self.limit = limit
    }
}

/// What one look at what is due did.
package struct ScheduledRound: Sendable, Hashable {
    /// Events that were accepted.
    package var sent: Int
    /// How long until the next one is due; nil where none waits.
    package var next: Duration?

    package init(sent: Int, next: Duration?) {
        self.sent = sent
        self.next = next
    }
}
