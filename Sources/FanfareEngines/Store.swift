package import FanfareCore
package import FanfareModel

/// What is durable: users, follows, streams, events, inboxes, direct messages, dead letters. Implemented on PostgreSQL.
///
/// Two kinds of errors: `FanfareError` is what the caller is told (1001 already live …, 1004 when the database is out of
/// reach, its breaker open, or its queue full); the fan-out's own calls throw `EngineError`.
package protocol Store: Sendable {
    var health: StoreHealth { get }

    // MARK: Users and follows

    /// Users come into being when first named. Repeating is harmless.
    /// - Returns: the key of each of them.
    @discardableResult
    func ensureUsers(_ users: [UserID]) async throws(FanfareError) -> [UserID: UserKey]
    /// - Returns: whether what is pushed to the user changed: see `pushPolicy`.
    /// - Throws: 106 where too many streamers are muted.
    @discardableResult
    func follow(_ follow: Follow) async throws(FanfareError) -> Bool
    /// - Returns: as `follow`.
    @discardableResult
    func unfollow(user: UserID, streamer: UserID) async throws(FanfareError) -> Bool

    // MARK: Preferences

    func preferences(of user: UserID) async throws(FanfareError) -> UserPreferences
    /// All or nothing; the level is in force for every streamer when this returns.
    /// - Throws: 107 for a time zone that does not exist.
    func setPreferences(_ change: PreferencesChange) async throws(FanfareError) -> UserPreferences
    /// What the user's preferences say of pushes.
    func pushPolicy(of user: UserID) async throws(FanfareError) -> PushPolicy

    // MARK: Streams and events

    /// One transaction: stream row, event row, outbox row. The same idempotency key with the same content gets the first
    /// result; with another content 1006. A second start while live: 1001.
    func startStream(_ start: StreamStart) async throws(FanfareError) -> StartedStream
    /// Within the hold-off after its start nothing more is sent of its event, unless it is started again.
    /// - Throws: 1002 where it is not live.
    func stopStream(_ which: StreamReference) async throws(FanfareError) -> StreamRecord
    /// One transaction: event row, recipients or audience, outbox row.
    /// - Throws: 1003 where one of the users was never seen (nothing is done), 1006 as above.
    func notify(_ notification: NotificationRequest) async throws(FanfareError) -> EventID
    /// The same at a time, for those who follow then. What lies in the past is due at once.
    /// - Returns: the id of the scheduled event.
    /// - Throws: as `notify`; 107 where it is too far ahead, 106 where too many wait.
    func schedule(_ notification: NotificationRequest, at time: Timestamp) async throws(FanfareError) -> Int64
    func scheduledEvents(_ filter: ScheduledEventFilter) async throws(FanfareError) -> [ScheduledEvent]
    /// Repeating is harmless.
    /// - Throws: 107 where there is none of that id, or it was sent already.
    func cancelScheduled(_ id: Int64) async throws(FanfareError)
    /// Accepts the scheduled events that are due, each once whoever else does so; `limit` at the most.
    func sendScheduled(limit: Int) async throws(EngineError) -> ScheduledRound
    func eventStatus(_ event: EventID) async throws(FanfareError) -> EventStatus
    /// What is under way, and what was: a page, newest first.
    func events(_ filter: EventFilter) async throws(FanfareError) -> EventPage
    /// How many events there ever were for the followers of a streamer, by type: all types, or the one named. Exact, also
    /// of what is not kept any more; none for one never seen.
    func eventCounts(of streamer: UserID, type: String?) async throws(FanfareError) -> [EventCount]
    /// Pauses the fan-out of an event, lets it go on, or ends it and takes back what is unread. Repeating is harmless.
    /// - Returns: the event's state afterwards.
    /// - Throws: 107 for an event that does not exist, or that is done or cancelled where that leaves nothing to control.
    func control(_ event: EventID, _ control: EventControl) async throws(FanfareError) -> EventState

    // MARK: Inbox

    /// Newest first.
    func notifications(_ query: InboxQuery) async throws(FanfareError) -> InboxPage
    /// What came after `sequence`, ascending, `limit` at the most, and the user's present position: for recovery. With nil
    /// the position alone.
    func inbox(of user: UserID, after sequence: UInt64?, limit: Int) async throws(FanfareError) -> InboxTail
    /// The present positions of those users who have one, or preferences: for finding who missed something. 1000 users at
    /// the most.
    /// - Parameter bounds: of these users only what lies below counts.
    func inboxPositions(
        of users: [UserID], below bounds: [UserID: UInt64]
    ) async throws(FanfareError) -> [UserID: InboxPosition]
    /// Marks entries of the inbox. What is archived is read, too. Repeating is harmless; sequences that the inbox has not
    /// are left out.
    func mark(_ user: UserID, _ mark: InboxMark, _ which: InboxSelection) async throws(FanfareError) -> MarkResult

    // MARK: Direct messages (the durable log of `dm:` channels)

    /// Appends in one transaction; offsets come from the channel's counter row, so that two writers never share one.
    func appendDirect(_ channel: String, _ entries: [AppendEntry]) async throws(EngineError) -> [AppendedEntry]
    func readDirect(_ channel: String, _ filter: HistoryFilter) async throws(EngineError) -> DirectHistory

    // MARK: Fan-out

    /// Takes the fences of `shards` for this owner: as `Broker.claim`, kept in PostgreSQL.
    /// - Returns: without those that were claimed under a newer view.
    func claimShards(_ shards: [Shard], view: ViewNumber, node: NodeID, incarnation: String) async throws(EngineError)
        -> [Shard: Fence]
    /// Moves events from the outbox into the log that the shards work from, in commit order per streamer; skips no row
    /// that commits late. Safe to run on several nodes at once.
    /// - Returns: the shards that have something to do, and whether there is more.
    func relayOutbox(limit: Int) async throws(EngineError) -> OutboxRelay
    /// Works what is due in the order's shards: takes new events up and writes inbox rows, all in one transaction with the
    /// shards' positions and jobs' cursors, fenced. Small events are written whole, large ones chunk by chunk in fair
    /// order. What fails for good becomes a dead letter and the rest goes on; what fails for now is set aside with
    /// backoff.
    /// - Parameter online: some of those online in a shard, so many at the most: of a large event they have their rows first,
    ///   then those marked as active of late, then the others.
    func workFanout(
        _ order: FanoutOrder, online: @escaping @Sendable (Shard, Int) -> [UserKey]
    ) async throws(EngineError) -> FanoutBatch
    /// These users came or went: kept by the day.
    func markActive(_ users: [(key: UserKey, shard: Shard)]) async throws(EngineError)
    /// Whom of `users` (the ones online) these broadcasts are for.
    /// - Returns: pushes in the order of their sequences.
    func broadcastPushes(_ broadcasts: [FanoutBroadcast], to users: [UserKey]) async throws(EngineError)
        -> [FanoutPush]
    /// What was committed in these shards and not settled, for those of `users` (the ones online) whom it is for.
    /// - Returns: pushes and the settlement that makes them good.
    func unsettledPushes(_ shards: [Shard: Fence], to users: [UserKey]) async throws(EngineError) -> FanoutBatch

    // MARK: Dead letters

    /// Oldest first.
    func deadLetters(_ filter: DeadLetterFilter) async throws(FanfareError) -> [DeadLetter]
    func countDeadLetters(_ filter: DeadLetterFilter) async throws(FanfareError) -> DeadLetterCount
    /// All of it in one transaction; work that is replayed begins in the order of its events.
    /// - Returns: how many were settled, or with `isTrial`, which changes nothing, would be.
    /// - Throws: 107 where one of the ids named does not exist or was settled before, 106 for too many: nothing is done.
    func settleDeadLetters(
        _ which: DeadLetterSelection, as settlement: DeadLetterSettlement, isTrial: Bool
    ) async throws(FanfareError) -> Int
}

extension Store {
    package func inboxPositions(of users: [UserID]) async throws(FanfareError) -> [UserID: InboxPosition] {
        try await self.inboxPositions(of: users, below: [:])
    }

    /// With nobody online.
    package func workFanout(_ order: FanoutOrder) async throws(EngineError) -> FanoutBatch {
        try await self.workFanout(order) { _, _ in [] }
    }
}

package struct StoreHealth: Sendable, Hashable {
    package var isReachable: Bool
    /// Of each class of work: `closed`, `open` or `half_open`.
    package var breakers: [String: String]
    /// Why not, for operators.
    package var problem: String?

    package init(isReachable: Bool, breakers: [String: String], problem: String? = nil) {
        self.isReachable = isReachable
        self.breakers = breakers
        self.problem = problem
    }

    /// The worst of them.
    package var breaker: String { CircuitBreaker.State.worst(self.breakers.values) }
}

package struct Follow: Sendable, Hashable {
    package var user: UserID
    package var streamer: UserID
    package var notify: NotifyPreference
    /// Leaves `notify` as it is for who follows already.
    package var keepsNotify: Bool
    package var mute: Change<Timestamp>

    package init(
        user: UserID, streamer: UserID, notify: NotifyPreference = .all, keepsNotify: Bool = false,
        mute: Change<Timestamp> = .keep
    ) {
        self.user = user
        self.streamer = streamer
        self.notify = notify
        self.keepsNotify = keepsNotify
        self.mute = mute
    }
}

package struct StreamStart: Sendable, Hashable {
    package var streamer: UserID
    package var title: String
    package var tags: [String]
    package var idempotencyKey: String?

    package init(streamer: UserID, title: String, tags: [String] = [], idempotencyKey: String? = nil) {
        self.streamer = streamer
        self.title = title
        self.tags = tags
        self.idempotencyKey = idempotencyKey
    }
}

package enum StreamReference: Sendable, Hashable {
    case streamer(UserID)
    case id(String)
    /// The stream, provided that it is this streamer's.
    case idOfStreamer(String, UserID)
}

package struct StreamRecord: Sendable, Hashable {
    package var id: String
    package var streamer: UserID
    package var title: String
    package var tags: [String]
    package var isLive: Bool
    package var startedAt: Timestamp
    package var endedAt: Timestamp?

    package init(
        id: String, streamer: UserID, title: String, tags: [String], isLive: Bool, startedAt: Timestamp,
        endedAt: Timestamp? = nil
    ) {
        self.id = id
        self.streamer = streamer
        self.title = title
        self.tags = tags
        self.isLive = isLive
        self.startedAt = startedAt
        self.endedAt = endedAt
    }
}

package struct StartedStream: Sendable, Hashable {
    package var stream: StreamRecord
    package var event: EventID
    /// The idempotency key had been used: this is the first result.
    package var isDuplicate: Bool

    package init(stream: StreamRecord, event: EventID, isDuplicate: Bool) {
        self.stream = stream
        self.event = event
        self.isDuplicate = isDuplicate
    }
}

package struct NotificationRequest: Sendable, Hashable {
    package enum Audience: Sendable, Hashable {
        case users([UserID])
        case followers(of: UserID)
    }
    package var audience: Audience
    /// `mention`, `raid`, `custom.…`
    package var type: String
    /// Raw JSON.
    package var data: Bytes
    package var idempotencyKey: String?
    /// Seconds after which it is not worth a push; nil for ever.
    package var timeToLive: Int?

    package init(
        audience: Audience, type: String, data: Bytes, idempotencyKey: String? = nil, timeToLive: Int? = nil
    ) {
        self.audience = audience
        self.type = type
        self.data = data
        self.idempotencyKey = idempotencyKey
        self.timeToLive = timeToLive
    }
}

package enum EventControl: String, Sendable, Hashable {
    case pause, resume, cancel
}

package enum EventState: String, Sendable, Hashable, CaseIterable {
    /// Accepted, and not relayed yet.
    case waiting
    case running, paused, cancelled, done
    /// Its stream ended within the hold-off: nothing more is sent, unless the stream goes on.
    case stopped
}

package struct EventStatus: Sendable, Hashable {
    package var event: EventID
    package var type: String
    /// Whose followers it is for; nil where users were named.
    package var streamer: UserID?
    package var acceptedAt: Timestamp
    package var shardsTotal: Int
    package var shardsDone: Int
    /// Inbox rows written.
    package var recipients: Int
    package var deliveredOnline: Int
    package var deadLetters: Int
    package var completedAt: Timestamp?
    package var state: EventState
    /// Whom it is for; nil where that was not counted yet.
    package var total: Int?
    /// Recipients from whom a cancellation took it back.
    package var withdrawn: Int
    package var priority: Int
    /// Recipients per second, of late; of an event that is complete, on the whole.
    package var rate: Double

    package init(
        event: EventID, type: String, streamer: UserID? = nil, acceptedAt: Timestamp, shardsTotal: Int,
        shardsDone: Int, recipients: Int, deliveredOnline: Int, deadLetters: Int, completedAt: Timestamp?,
        state: EventState, total: Int? = nil, withdrawn: Int = 0, priority: Int = 0, rate: Double = 0
    ) {
        self.streamer = streamer
        self.state = state
        self.total = total
        self.withdrawn = withdrawn
        self.priority = priority
        self.rate = rate
        self.event = event
        self.type = type
        self.acceptedAt = acceptedAt
        self.shardsTotal = shardsTotal
        self.shardsDone = shardsDone
        self.recipients = recipients
        self.deliveredOnline = deliveredOnline
        self.deadLetters = deadLetters
        self.completedAt = completedAt
    }

    /// Seconds until it is done at the present rate; nil where that says nothing.
    package var remainingSeconds: Int? {
        if self.completedAt != nil { return 0 }
        guard self.state == .running, let total = self.total, self.rate > 0 else { return nil }
        return Int((Double(max(0, total - self.recipients)) / self.rate).rounded(.up))
    }
}

/// How many events of a type a streamer had.
package struct EventCount: Sendable, Hashable {
    package var type: String
    package var count: Int64

    package init(type: String, count: Int64) {
        self.type = type
        self.count = count
    }
}

package struct DirectHistory: Sendable, Hashable {
    package struct Entry: Sendable, Hashable {
        package var offset: UInt64
        package var body: Bytes
        package init(offset: UInt64, body: Bytes) {
            self.offset = offset
            self.body = body
        }
    }
    /// In the order asked for.
    package var entries: [Entry]
    package var top: StreamPosition

    package init(entries: [Entry], top: StreamPosition) {
        self.entries = entries
        self.top = top
    }
}

package struct OutboxRelay: Sendable, Hashable {
    package var shards: [Shard]
    package var events: Int
    package var hasMore: Bool

    package init(shards: [Shard], events: Int, hasMore: Bool) {
        self.shards = shards
        self.events = events
        self.hasMore = hasMore
    }
}
