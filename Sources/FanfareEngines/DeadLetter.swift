package import FanfareModel

package struct DeadLetterFilter: Sendable, Hashable {
    package var event: EventID?
    package var kind: String?
    package var endpoint: String?
    package var errorClass: DeadLetter.ErrorClass?
    package var sqlState: String?
    /// Whose followers the event is for.
    package var streamer: UserID?
    package var user: UserID?
    /// Last failed at least, and at most, so long ago, by the store's clock.
    package var minimumAge: Duration?
    package var maximumAge: Duration?
    /// Among these alone; 1000 at the most.
    package var ids: [Int64]?
    /// Those replayed or discarded too.
    package var includesSettled: Bool
    /// Ids above this one.
    package var after: Int64
    /// Ids up to this one.
    package var upTo: Int64?
    /// 1–1000.
    package var limit: Int

    package init(
        event: EventID? = nil, kind: String? = nil, includesSettled: Bool = false, after: Int64 = 0, limit: Int = 100
    ) {
        self.event = event
        self.kind = kind
        self.includesSettled = includesSettled
        self.after = after
        self.limit = limit
    }
}

/// Which dead letters are meant.
package enum DeadLetterSelection: Sendable, Hashable {
    /// These and no others: 1000 at the most.
    case ids([Int64])
    /// Those that wait and match, in the order of their events, up to the filter's limit.
    case matching(DeadLetterFilter)
}

package enum DeadLetterSettlement: Sendable, Hashable {
    /// Back to work.
    case replay
    /// Given up; it stays on record.
    case discard
}

package struct DeadLetterCount: Sendable, Hashable {
    package var count: Int
    /// The highest id; 0 where there is none.
    package var lastID: Int64

    package init(count: Int, lastID: Int64) {
        self.count = count
        self.lastID = lastID
    }
}

/// Work that failed for good, kept for an operator.
package struct DeadLetter: Sendable, Hashable {
    package enum State: String, Sendable, Hashable { case dead, replayed, discarded }
    /// What kind of fault it was, told from the SQLSTATE.
    package enum ErrorClass: String, Sendable, Hashable, CaseIterable {
        /// The row itself.
        case data
        /// A race that was lost again and again.
        case conflict
        /// A lock or an answer that did not come in time.
        case timeout
        /// The server was short of something, or ill.
        case resources
        case connection
        case readOnly = "read_only"
        /// The statement, the schema or the rights.
        case statement
        case other
    }
    /// Of `kind`.
    package static let kinds = ["fanout", "outbox", "push"]

    package var id: Int64
    /// What the work was: one of `kinds`.
    package var kind: String
    /// Where it was to go: `user:<name>`, `shard:<number>`, `outbox`.
    package var endpoint: String
    package var errorClass: ErrorClass
    /// Replays of letters that share it keep the order of their events: `streamer:<name>`, `user:<name>`, `event:<id>`.
    package var orderKey: String
    package var streamer: UserID?
    /// The letter whose replay failed again. Attempts and the first time go on from there.
    package var replayOf: Int64?
    package var settledAt: Timestamp?
    package var event: EventID?
    package var user: UserID?
    package var shard: Shard?
    /// Raw JSON: enough to do the work again.
    package var payload: Bytes
    package var cause: String
    package var sqlState: String?
    package var attempts: Int
    package var firstFailedAt: Timestamp
    package var lastFailedAt: Timestamp
    package var state: State

    package init(
        id: Int64, kind: String, endpoint: String, errorClass: ErrorClass, orderKey: String, streamer: UserID?,
        event: EventID?, user: UserID?, shard: Shard?, payload: Bytes, cause: String, sqlState: String?, attempts: Int,
        firstFailedAt: Timestamp, lastFailedAt: Timestamp, state: State, replayOf: Int64?, settledAt: Timestamp?
    ) {
        self.id = id
        self.kind = kind
        self.endpoint = endpoint
        self.errorClass = errorClass
        self.orderKey = orderKey
        self.streamer = streamer
        self.event = event
        self.user = user
        self.shard = shard
        self.payload = payload
        self.cause = cause
        self.sqlState = sqlState
        self.attempts = attempts
        self.firstFailedAt = firstFailedAt
        self.lastFailedAt = lastFailedAt
        self.state = state
        self.replayOf = replayOf
        self.settledAt = settledAt
    }
}
