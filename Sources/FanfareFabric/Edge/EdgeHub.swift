package import FanfareCore
package import FanfareEngines
package import FanfareModel
import FanfareProtocol
import Logging

/// Where the log of a channel is read, whoever keeps it.
package protocol ChannelLog: Sendable {
    func history(_ filter: HistoryFilter, of channel: Channel) async throws(FanfareError) -> RoomHistory
    /// Where the users' inboxes and preferences stand; those without either are left out.
    /// - Parameter bounds: of these users only what lies below counts.
    func inboxPositions(
        of users: [UserID], below bounds: [UserID: UInt64]
    ) async throws(FanfareError) -> [UserID: InboxPosition]
    func pushPolicy(of user: UserID) async throws(FanfareError) -> PushPolicy
    /// The keys of the users; none where there is no database.
    func userKeys(of users: [UserID]) async throws(FanfareError) -> [UserID: UserKey]
}

/// The delivery side of one loop: the edges of all rooms with subscribers on it, and the sessions of each user there.
///
/// Deliveries never suspend; activating an edge and repairing a gap do, with the edge's state saying so.
package actor EdgeHub {
    package struct Limits: Sendable, Hashable {
        /// Publications that an edge keeps for those who come back soon.
        package var tailCount = 100
        package var tailBytes = 256 << 10
        /// How long an edge without subscribers stays.
        package var lingerTime: Duration = .seconds(2)
        /// How often the position of a quiet edge is compared with the log's.
        package var checkInterval: Duration = .seconds(30)
        /// Comparisons under way at once.
        var checksAtOnce = 32
        /// Inboxes compared with their sessions in one query.
        package var inboxBatch = 500

        package init() {}
    }

    package nonisolated let unownedExecutor: UnownedSerialExecutor
    nonisolated let loop: any Loop
    nonisolated let index: Int
    private let subscriptions: RoomSubscriptions
    let log: any ChannelLog
    let limits: Limits
    let backoff: Backoff
    let random: @Sendable () -> UInt64
    let logger: Logger
    let metrics: FabricMetrics

    private(set) var edges: [String: RoomEdge] = [:]
    private var users: [UserID: [Session]] = [:]
    private var sessions: [ClientID: Session] = [:]
    var checksUnderWay = 0
    private(set) var isStopped = false
    var inboxes = InboxComparisons()
    var online = OnlineSessions()

    init(
        loop: any Loop, index: Int, subscriptions: RoomSubscriptions, log: any ChannelLog, limits: Limits,
        random: @escaping @Sendable () -> UInt64, logger: Logger, metrics: FabricMetrics
    ) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.loop = loop
        self.index = index
        self.subscriptions = subscriptions
        self.log = log
        self.limits = limits
        self.backoff = Backoff(base: .milliseconds(50), cap: .seconds(2))
        self.random = random
        self.logger = logger
        self.metrics = metrics
    }

    func start() {
        self.scheduleCheck()
        self.scheduleInboxCheck()
    }

    func stop() { self.isStopped = true }

    // MARK: Sessions

    func register(_ session: Session) { self.sessions[session.client] = session }

    func unregister(_ session: Session, user: UserID, key: UserKey?) {
        self.sessions[session.client] = nil
        if let key { self.online(session, user, key, isOnline: false) }
        self.users[user]?.removeAll { $0 === session }
        if self.users[user]?.isEmpty == true { self.users[user] = nil }
    }

    func register(_ session: Session, user: UserID) { self.users[user, default: []].append(session) }

    func sessions(of user: UserID) -> [Session] { self.users[user] ?? [] }
    package var allSessions: [Session] { self.sessions.values.sorted { $0.client.rawValue < $1.client.rawValue } }
    package var sessionCount: Int { self.sessions.count }
    package var userNames: Set<UserID> { Set(self.users.keys) }

    // MARK: Subscribing

    /// Makes the session a subscriber; see `SubscribeRequestInEdge.completion` for how it is told.
    func subscribe(
        _ subscriber: Subscriber, to channel: Channel, recovery: StreamPosition?,
        completion: @escaping @Sendable (Result<SubscribeOutcome, FanfareError>) -> Bool
    ) {
        let request = SubscribeRequestInEdge(subscriber: subscriber, recovery: recovery, completion: completion)
        let edge = self.edges[channel.name] ?? self.makeEdge(channel)
        edge.lingering?.cancel()
        edge.lingering = nil
        if case .live = edge.state {
            self.serve(request, edge)
        } else {
            edge.waiting.append(request)
        }
    }

    func unsubscribe(_ client: ClientID, from channel: String) {
        guard let edge = self.edges[channel] else { return }
        let given = edge.waiting.filter { $0.subscriber.info.client == client }
        edge.waiting.removeAll { $0.subscriber.info.client == client }
        _ = edge.remove(client)
        // Someone waits for each of these answers.
        for request in given { _ = request.completion(.failure(.expired)) }
        self.lingerIfUnused(edge)
    }

    /// The sessions of this loop that are subscribed; to a user's channel, all of the user's.
    func clients(of channel: String) -> [ClientInfo] {
        if let edge = self.edges[channel] { return edge.subscribers.map(\.info) }
        guard case .user(let user) = (try? Channel(channel))?.kind else { return [] }
        return self.sessions(of: user).map { $0.onThisLoop { $0.clientInfo } }
    }

    func clientCounts() -> [String: Int] {
        self.edges.compactMapValues { $0.subscribers.isEmpty ? nil : $0.subscribers.count }
    }

    private func makeEdge(_ channel: Channel) -> RoomEdge {
        let edge = RoomEdge(
            channel: channel, tailCount: self.limits.tailCount, tailBytes: self.limits.tailBytes, now: self.loop.now)
        self.edges[channel.name] = edge
        self.metrics.edges.increment(by: 1)
        self.loop.task { await self.activate(edge) }
        return edge
    }

    private func activate(_ edge: RoomEdge) async {
        do throws(FanfareError) {
            try await self.subscriptions.attach(edge.channel.name, hub: self)
            edge.beginRead()
            let page = try await self.log.history(HistoryFilter(limit: 0), of: edge.channel)
            guard self.edges[edge.channel.name] === edge else {
                if self.edges[edge.channel.name] == nil { self.subscriptions.detach(edge.channel.name, hub: self) }
                return
            }
            edge.reset(to: page.top)
            self.goLive(edge)
        } catch {
            let waiting = edge.waiting
            edge.waiting = []
            self.removeEdge(edge)
            for request in waiting { _ = request.completion(.failure(error)) }
        }
    }

    func goLive(_ edge: RoomEdge) {
        edge.state = .live
        edge.lastChecked = self.loop.now
        let (held, isIncomplete) = edge.takeHeld()
        for batch in held { self.deliver(batch, to: edge) }
        if isIncomplete { self.repair(edge) }
        guard case .live = edge.state else { return }
        let waiting = edge.waiting
        edge.waiting = []
        for request in waiting { self.serve(request, edge) }
        self.lingerIfUnused(edge)
    }

    /// The edge is live: the request is answered now, or after a read of the log.
    private func serve(_ request: SubscribeRequestInEdge, _ edge: RoomEdge) {
        let position = edge.cursor.position
        guard let recovery = request.recovery else {
            return self.complete(
                request, edge, SubscribeOutcome(position: position, recovered: nil), at: position.offset)
        }
        if !recovery.epoch.isEmpty, recovery.epoch != position.epoch {
            self.metrics.recoveriesFailed.increment()
            return self.complete(
                request, edge, SubscribeOutcome(position: position, recovered: nil), at: position.offset)
        }
        if recovery.offset <= position.offset, let bodies = edge.tail.since(recovery.offset) {
            if let publications = self.decode(bodies, first: recovery.offset + 1) {
                self.metrics.recoveries.increment()
                let outcome = SubscribeOutcome(position: position, recovered: publications)
                return self.complete(request, edge, outcome, at: position.offset)
            }
        }
        self.loop.task { await self.recover(request, edge, from: recovery) }
    }

    private func recover(_ request: SubscribeRequestInEdge, _ edge: RoomEdge, from recovery: StreamPosition) async {
        let page: HistoryPage
        do throws(FanfareError) {
            let since = StreamPosition(offset: recovery.offset, epoch: "")
            page = try await self.log.history(HistoryFilter(limit: -1, since: since), of: edge.channel).decoded()
        } catch {
            _ = request.completion(.failure(error))
            return self.lingerIfUnused(edge)
        }
        guard self.edges[edge.channel.name] === edge, case .live = edge.state else {
            // The edge went away or is being repaired: begin again with the one that is there now.
            return self.subscribe(
                request.subscriber, to: edge.channel, recovery: recovery, completion: request.completion)
        }
        let here = edge.cursor.position
        var publications = page.publications
        // The epoch may have changed since the request was looked at.
        let isWhole =
            page.top.epoch == here.epoch && (recovery.epoch.isEmpty || recovery.epoch == here.epoch)
            && (publications.isEmpty
                ? page.top.offset == recovery.offset
                : publications[0].offset == recovery.offset + 1
                    && publications[publications.count - 1].offset == page.top.offset)
        if isWhole {
            // What was published since the page was read is in the edge's tail.
            if page.top.offset < here.offset {
                if let bodies = edge.tail.since(page.top.offset),
                    let newer = self.decode(bodies, first: page.top.offset + 1)
                {
                    publications += newer
                } else if request.attempts < 3 {
                    var again = request
                    again.attempts += 1
                    return self.serve(again, edge)
                } else {
                    self.metrics.recoveriesFailed.increment()
                    return self.complete(
                        request, edge, SubscribeOutcome(position: here, recovered: nil), at: here.offset)
                }
            }
            self.metrics.recoveries.increment()
            let position = StreamPosition(offset: max(page.top.offset, here.offset), epoch: here.epoch)
            return self.complete(
                request, edge, SubscribeOutcome(position: position, recovered: publications), at: position.offset)
        }
        self.metrics.recoveriesFailed.increment()
        self.complete(request, edge, SubscribeOutcome(position: here, recovered: nil), at: here.offset)
    }

    private func complete(
        _ request: SubscribeRequestInEdge, _ edge: RoomEdge, _ outcome: SubscribeOutcome, at offset: UInt64
    ) {
        if request.completion(.success(outcome)) { edge.add(request.subscriber, at: offset) }
        self.lingerIfUnused(edge)
    }

    private func lingerIfUnused(_ edge: RoomEdge) {
        guard edge.isUnused, edge.lingering == nil, self.edges[edge.channel.name] === edge else { return }
        let name = edge.channel.name
        edge.lingering = self.loop.schedule(after: self.limits.lingerTime) {
            self.onThisLoop { hub in
                guard let edge = hub.edges[name], edge.lingering != nil else { return }
                edge.lingering = nil
                if edge.isUnused { hub.removeEdge(edge) }
            }
        }
    }

    private func removeEdge(_ edge: RoomEdge) {
        guard self.edges[edge.channel.name] === edge else { return }
        self.edges[edge.channel.name] = nil
        self.metrics.edges.decrement(by: 1)
        self.subscriptions.detach(edge.channel.name, hub: self)
    }

    // MARK: Delivering

    /// A batch arrived from the broker.
    func deliver(_ batch: PublishedBatch, room: String) {
        guard let edge = self.edges[room] else { return }
        self.deliver(batch, to: edge)
    }

    private func deliver(_ batch: PublishedBatch, to edge: RoomEdge) {
        // Not kept anywhere, and without an offset: for those who are here now.
        guard batch.firstOffset > 0 else { return self.passOn(batch, to: edge) }
        guard case .live = edge.state else { return edge.hold(batch) }
        switch edge.cursor.accept(epoch: batch.epoch, firstOffset: batch.firstOffset, count: batch.bodies.count) {
        case .deliver(let known):
            edge.lastChecked = self.loop.now
            edge.repairsInARow = 0
            self.fanOut(
                known == 0 ? batch.bodies : Array(batch.bodies[known...]), first: batch.firstOffset + UInt64(known),
                edge)
        case .duplicate:
            break
        case .gap, .epochChanged:
            edge.hold(batch)
            self.repair(edge)
        }
    }

    func fanOut(_ bodies: [Bytes], first: UInt64, _ edge: RoomEdge) {
        for body in bodies { _ = edge.tail.append(body) }
        guard let publications = self.decode(bodies, first: first) else {
            // Written by a newer version in a way that this one cannot read: subscribers are told, not skipped.
            self.logger.error("a publication cannot be read", metadata: ["room": "\(edge.channel)"])
            return self.loseSubscribers(of: edge)
        }
        guard !edge.subscribers.isEmpty else { return }
        let (deliveries, left) = edge.deliver(first: first, count: publications.count) { variant, from in
            PublicationFrames.encode(publications[from...], channel: edge.channel.name, variant: variant)
        }
        self.metrics.deliveries.increment(by: deliveries)
        for subscriber in left {
            _ = edge.remove(subscriber.info.client)
            self.tellInsufficient(subscriber, edge.channel)
        }
    }

    private func passOn(_ batch: PublishedBatch, to edge: RoomEdge) {
        guard let publications = self.decode(batch.bodies, first: 0) else { return }
        for publication in publications {
            var publication = publication
            publication.offset = 0
            let deliveries = edge.passOn { variant in
                PublicationFrames.encode([publication], channel: edge.channel.name, variant: variant)
            }
            self.metrics.deliveries.increment(by: deliveries)
        }
    }

    private func decode(_ bodies: [Bytes], first: UInt64) -> [Publication]? {
        var publications: [Publication] = []
        publications.reserveCapacity(bodies.count)
        for (index, body) in bodies.enumerated() {
            guard var publication = try? PublicationBody.decode(body) else { return nil }
            publication.offset = first + UInt64(index)
            publications.append(publication)
        }
        return publications
    }
}
