package import FanfareCore
import FanfareEngines
package import FanfareModel
import FanfareProtocol
import Synchronization

extension Node: SessionBackend {
    // MARK: Channels

    package func publish(_ order: PublishOrder, by caller: Caller) async throws(FanfareError) -> StreamPosition? {
        let channel = order.channel
        if case .client(let info, _) = caller, !ChannelRules.mayPublish(info.user, to: channel) {
            throw .permissionDenied
        }
        let publication = Publication(
            data: order.data, info: caller.info, tags: order.tags,
            time: self.surroundings.wallClock().milliseconds)
        if order.version != nil {
            guard case .server = caller else { throw .badRequest("'version' is for the server API") }
            switch channel.kind {
            case .room, .stream: break
            case .user, .direct: throw .badRequest("'version' is for rooms and streams")
            }
        }
        switch channel.kind {
        case .user(let user):
            // Not an entry of the inbox: for those who are online now.
            _ = await self.service.gather(.notice(InboxPush(sequence: 0, payload: order.data), user: user, except: nil))
            return nil
        case .direct:
            return try await self.publishDirect(publication, order)
        case .room, .stream:
            if order.skipsHistory {
                guard order.version == nil else { throw .badRequest("'version' goes with a history") }
                let batch = PublishedBatch(epoch: "", firstOffset: 0, bodies: [PublicationBody.encode(publication)])
                do throws(EngineError) {
                    try await self.broker.broadcast(batch, room: channel.name)
                } catch {
                    throw .brokerUnavailable
                }
                return nil
            }
            return try await self.append(
                AppendEntry(
                    body: PublicationBody.encode(publication), idempotencyKey: order.idempotencyKey,
                    version: order.version), to: channel)
        }
    }

    /// A new idempotency key is counted before the broker remembers it, and at the limit it is refused. Whether a key is
    /// new the append alone can tell: a known one passes at the limit too, and does not count again.
    private func append(_ entry: AppendEntry, to channel: Channel) async throws(FanfareError) -> StreamPosition {
        guard entry.idempotencyKey != nil else { return try await self.router.publish(entry, room: channel).position }
        let admission = self.countKeys { $0.admit(now: self.loops[0].now) }
        var entry = entry
        entry.requiresKnownKey = admission == nil
        let appended: AppendedEntry
        do throws(FanfareError) {
            appended = try await self.router.publish(entry, room: channel)
        } catch {
            // Refused at the door: nothing was appended. After any other error it may have been.
            if error == .tooManyRequests, let admission { self.countKeys { $0.takeBack(admission) } }
            throw error
        }
        if !appended.isAppended, let admission { self.countKeys { $0.takeBack(admission) } }
        guard appended.outcome != .unknownKey else {
            self.metrics.throttledKeys.increment()
            throw .tooManyRequests
        }
        return appended.position
    }

    private func countKeys<Answer: Sendable>(_ change: (inout WindowCount) -> Answer) -> Answer {
        let (answer, total) = self.rememberedKeys.withLock { (change(&$0), $0.total) }
        self.metrics.idempotencyKeys.record(Double(total))
        return answer
    }

    /// The store keeps the log and gives the offsets; the broker carries the message to those online.
    private func publishDirect(
        _ publication: Publication, _ order: PublishOrder
    ) async throws(FanfareError) -> StreamPosition? {
        guard let store = self.store else { throw .databaseUnavailable }
        let entry = AppendEntry(body: PublicationBody.encode(publication), idempotencyKey: order.idempotencyKey)
        let appended: [AppendedEntry]
        do throws(EngineError) {
            appended = try await store.appendDirect(order.channel.name, [entry])
        } catch {
            throw error.isRetryable ? .databaseUnavailable : .internal
        }
        guard let first = appended.first else { throw .internal }
        if !first.isDuplicate {
            let batch = PublishedBatch(
                epoch: first.position.epoch, firstOffset: first.position.offset, bodies: [entry.body])
            // It is durable: where the broker is away, edges find the gap when it is back.
            try? await self.broker.broadcast(batch, room: order.channel.name)
        }
        return first.position
    }

    package func presence(_ channel: Channel, for caller: Caller) async throws(FanfareError) -> [ClientInfo] {
        try self.checkRead(channel, caller)
        var clients: [ClientInfo] = []
        for case .presence(let some) in await self.service.gather(.presence(channel: channel.name)).values {
            clients += some
        }
        return clients.sorted { $0.client.rawValue < $1.client.rawValue }
    }

    package func presenceStats(_ channel: Channel, for caller: Caller) async throws(FanfareError) -> PresenceStats {
        try self.checkRead(channel, caller)
        var clients = 0
        var users = Set<UInt64>()
        for case .presenceStats(let count, let some) in await self.service.gather(
            .presenceStats(channel: channel.name)
        ).values {
            clients += count
            users.formUnion(some)
        }
        return PresenceStats(clients: clients, users: users.count)
    }

    package func history(
        _ channel: Channel, _ filter: HistoryFilter, for caller: Caller
    ) async throws(FanfareError) -> HistoryPage {
        try self.checkRead(channel, caller)
        if case .user = channel.kind {
            throw .notAvailable("a user channel's history is the inbox: see 'notifications'")
        }
        return try await ChannelLogs(router: self.router, store: self.store).history(filter, of: channel).decoded()
    }

    package func removeHistory(_ channel: Channel) async throws(FanfareError) {
        switch channel.kind {
        case .room, .stream: try await self.router.removeHistory(room: channel)
        case .user, .direct: throw .notAvailable("this history is durable")
        }
    }

    private func checkRead(_ channel: Channel, _ caller: Caller) throws(FanfareError) {
        guard case .client(let info, _) = caller else { return }
        guard ChannelRules.maySubscribe(info.user, to: channel) else { throw .permissionDenied }
    }

    package func channels(matching pattern: String?) async throws(FanfareError) -> [String: Int] {
        var counts: [String: Int] = [:]
        for case .channels(let some) in await self.service.gather(.channels(pattern: pattern)).values {
            counts.merge(some, uniquingKeysWith: +)
        }
        return counts
    }

    // MARK: Sessions

    package func subscribe(_ order: SubscribeOrder) async throws(FanfareError) {
        _ = await self.service.gather(
            .sessions(
                SessionCommand(
                    sessions: order.sessions,
                    action: .subscribe(
                        channel: order.channel.name, recoverSince: order.recoverSince, info: order.info,
                        data: order.data))))
    }

    package func unsubscribe(_ sessions: SessionSelector, from channel: Channel) async throws(FanfareError) {
        _ = await self.service.gather(
            .sessions(SessionCommand(sessions: sessions, action: .unsubscribe(channel: channel.name))))
    }

    package func disconnect(_ sessions: SessionSelector, with disconnect: Disconnect) async throws(FanfareError) {
        _ = await self.service.gather(
            .sessions(SessionCommand(sessions: sessions, action: .disconnect(disconnect))))
    }

    package func refresh(_ sessions: SessionSelector, _ refresh: SessionRefresh) async throws(FanfareError) {
        _ = await self.service.gather(.sessions(SessionCommand(sessions: sessions, action: .refresh(refresh))))
    }

    // MARK: Cluster

    package func nodes() async throws(FanfareError) -> [NodeInfo] {
        var nodes: [NodeInfo] = []
        for case .info(let info) in await self.service.gather(.info).values { nodes.append(info) }
        return nodes.sorted { $0.node < $1.node }
    }

    package func clusterStatus() async throws(FanfareError) -> ClusterStatus {
        guard let view = self.map.view else { throw .brokerUnavailable }
        return ClusterStatus(view: view.number, nodes: try await self.nodes())
    }

    package func slotTable() async throws(FanfareError) -> SlotTable {
        guard let view = self.map.view else { throw .brokerUnavailable }
        return SlotTable(view: view)
    }

    package func drain(_ node: NodeID) async throws(FanfareError) {
        guard let view = self.map.view else { throw .brokerUnavailable }
        guard view.member(node) != nil else { throw .badRequest("no node has this name") }
        switch await self.service.ask(.drain, node) {
        case .done: return
        case .refused(.refused(let error)): throw error
        case nil: throw .notAvailable("the node does not answer")
        default: throw .internal
        }
    }

    // MARK: Methods of clients

    package func call(method: String, data: Bytes, caller: Caller) async throws(FanfareError) -> Bytes {
        try await self.methods(self, method, data, caller)
    }
}
