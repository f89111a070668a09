package import FanfareCore
package import FanfareEngines
package import FanfareModel

/// What a node does for those who ask: the server API, rpc of clients, GraphQL. Parameters arrive validated (lengths,
/// ranges, names); rights, existence and state are judged here.
///
/// Every call is bounded in time. Errors are what the caller is told.
package protocol NodeOperations: Sendable {
    // MARK: Channels

    /// Returns after the append.
    /// - Returns: nil where the channel keeps no history.
    /// - Throws: 102 and 103 by the channel's rules, 1007 banned or muted, 1008 slow mode, 1005 without a broker.
    func publish(_ publish: PublishOrder, by caller: Caller) async throws(FanfareError) -> StreamPosition?
    /// - Throws: 102, 108 where the channel has no presence, 103 where the caller may not see it.
    func presence(_ channel: Channel, for caller: Caller) async throws(FanfareError) -> [ClientInfo]
    func presenceStats(_ channel: Channel, for caller: Caller) async throws(FanfareError) -> PresenceStats
    /// - Throws: 108 where the channel has no history, 112 where the epoch asked for is another one.
    func history(_ channel: Channel, _ filter: HistoryFilter, for caller: Caller) async throws(FanfareError)
        -> HistoryPage
    /// Removes the publications; epoch and offset stay.
    func removeHistory(_ channel: Channel) async throws(FanfareError)
    /// Channels with subscribers anywhere in the cluster, with the number of their clients.
    /// - Parameter pattern: a glob (`*`, `?`); nil for all.
    func channels(matching pattern: String?) async throws(FanfareError) -> [String: Int]

    // MARK: Sessions

    /// Adds a server-side subscription to the user's sessions, on all nodes.
    func subscribe(_ order: SubscribeOrder) async throws(FanfareError)
    func unsubscribe(_ sessions: SessionSelector, from channel: Channel) async throws(FanfareError)
    func disconnect(_ sessions: SessionSelector, with disconnect: Disconnect) async throws(FanfareError)
    /// Prolongs, limits or ends the sessions.
    func refresh(_ sessions: SessionSelector, _ refresh: SessionRefresh) async throws(FanfareError)

    // MARK: Cluster

    func nodes() async throws(FanfareError) -> [NodeInfo]
    func clusterStatus() async throws(FanfareError) -> ClusterStatus
    /// Who owns which slot, as this node knows it.
    func slotTable() async throws(FanfareError) -> SlotTable
    /// Makes the node leave in peace and end; returns when it has begun.
    /// - Throws: 107 where there is no such node, 108 where it does not answer.
    func drain(_ node: NodeID) async throws(FanfareError)

    // MARK: Durable: 1004 without a database

    /// Pushes what changed about muted streamers to the user's other sessions.
    /// - Parameter client: as in `mark`.
    func follow(_ follow: Follow, by client: ClientID?) async throws(FanfareError)
    func unfollow(user: UserID, streamer: UserID, by client: ClientID?) async throws(FanfareError)
    func preferences(of user: UserID) async throws(FanfareError) -> UserPreferences
    /// In force on this node when it returns, on the others soon after. Pushes the change to the user's other sessions.
    /// - Parameter client: as in `mark`.
    func setPreferences(_ change: PreferencesChange, by client: ClientID?) async throws(FanfareError) -> UserPreferences
    func startStream(_ start: StreamStart) async throws(FanfareError) -> StartedStream
    func stopStream(_ which: StreamReference) async throws(FanfareError) -> StreamRecord
    func notify(_ notification: NotificationRequest) async throws(FanfareError) -> EventID
    func schedule(_ notification: NotificationRequest, at time: Timestamp) async throws(FanfareError) -> Int64
    func scheduledEvents(_ filter: ScheduledEventFilter) async throws(FanfareError) -> [ScheduledEvent]
    func cancelScheduled(_ id: Int64) async throws(FanfareError)
    func eventStatus(_ event: EventID) async throws(FanfareError) -> EventStatus
    func events(_ filter: EventFilter) async throws(FanfareError) -> EventPage
    func eventCounts(of streamer: UserID, type: String?) async throws(FanfareError) -> [EventCount]
    func control(_ event: EventID, _ control: EventControl) async throws(FanfareError) -> EventState
    func notifications(_ query: InboxQuery) async throws(FanfareError) -> InboxPage
    /// Pushes the change to the user's other sessions.
    /// - Parameter client: the session that asked, which is not pushed to; nil where the server API asked.
    func mark(
        _ user: UserID, _ mark: InboxMark, _ which: InboxSelection, by client: ClientID?
    ) async throws(FanfareError) -> MarkResult
    func deadLetters(_ filter: DeadLetterFilter) async throws(FanfareError) -> [DeadLetter]
    func countDeadLetters(_ filter: DeadLetterFilter) async throws(FanfareError) -> DeadLetterCount
    func settleDeadLetters(
        _ which: DeadLetterSelection, as settlement: DeadLetterSettlement, isTrial: Bool
    ) async throws(FanfareError) -> Int
}

/// On whose behalf an operation is done.
package enum Caller: Sendable, Hashable {
    /// The application's server, which showed the API key: may do everything.
    case server
    /// A client under its own identity.
    case client(ClientInfo, Role)

    /// The client as subscribers see it; nil for the server.
    package var info: ClientInfo? { if case .client(let info, _) = self { info } else { nil } }
}

package struct PublishOrder: Sendable, Hashable {
    package var channel: Channel
    /// Raw JSON of 64 KiB at the most.
    package var data: Bytes
    package var tags: [String: String]
    package var idempotencyKey: String?
    /// Delivered, but not kept.
    package var skipsHistory: Bool
    /// Of rooms and streams, by the server alone: a client could silence a channel with a high one.
    package var version: PublicationVersion?

    package init(
        channel: Channel, data: Bytes, tags: [String: String] = [:], idempotencyKey: String? = nil,
        skipsHistory: Bool = false, version: PublicationVersion? = nil
    ) {
        self.channel = channel
        self.data = data
        self.tags = tags
        self.idempotencyKey = idempotencyKey
        self.skipsHistory = skipsHistory
        self.version = version
    }
}

/// Which sessions of a user are meant, on all nodes.
package struct SessionSelector: Sendable, Hashable {
    package var user: UserID
    /// This one alone; nil for all.
    package var client: ClientID?
    /// But not these.
    package var except: [ClientID]

    package init(user: UserID, client: ClientID? = nil, except: [ClientID] = []) {
        self.user = user
        self.client = client
        self.except = except
    }
}

package struct SubscribeOrder: Sendable, Hashable {
    package var sessions: SessionSelector
    package var channel: Channel
    /// Raw JSON that others see in presence; empty where there is none.
    package var info: Bytes
    /// Raw JSON for the client's `subscribe` push; empty where there is none.
    package var data: Bytes
    /// Publications after it are delivered first.
    package var recoverSince: StreamPosition?

    package init(
        sessions: SessionSelector, channel: Channel, info: Bytes = [], data: Bytes = [],
        recoverSince: StreamPosition? = nil
    ) {
        self.sessions = sessions
        self.channel = channel
        self.info = info
        self.data = data
        self.recoverSince = recoverSince
    }
}

package enum SessionRefresh: Sendable, Hashable {
    /// Ends with 3005.
    case expired
    /// Lasts until this many seconds since 1970; nil for as long as the connection.
    case until(Int64?)
}

package struct PresenceStats: Sendable, Hashable {
    package var clients: Int
    package var users: Int

    package init(clients: Int, users: Int) {
        self.clients = clients
        self.users = users
    }
}

/// A node as it reports itself.
package struct NodeInfo: Sendable, Hashable {
    package var node: NodeID
    /// Random at each start.
    package var incarnation: String
    package var version: String
    package var state: Member.State
    package var slots: Int
    package var sessions: Int
    package var users: Int
    package var subscriptions: Int
    /// Channels with subscribers on this node.
    package var channels: Int
    /// Rooms that this node owns and holds in memory.
    package var rooms: Int
    package var uptimeSeconds: Int

    package init(
        node: NodeID, incarnation: String, version: String, state: Member.State, slots: Int, sessions: Int, users: Int,
        subscriptions: Int, channels: Int, rooms: Int, uptimeSeconds: Int
    ) {
        self.node = node
        self.incarnation = incarnation
        self.version = version
        self.state = state
        self.slots = slots
        self.sessions = sessions
        self.users = users
        self.subscriptions = subscriptions
        self.channels = channels
        self.rooms = rooms
        self.uptimeSeconds = uptimeSeconds
    }
}

package struct ClusterStatus: Sendable, Hashable {
    package var view: ViewNumber
    package var nodes: [NodeInfo]

    package init(view: ViewNumber, nodes: [NodeInfo]) {
        self.view = view
        self.nodes = nodes
    }
}
