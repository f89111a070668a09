import FanfareCore
import FanfareModel
import Logging

/// What an edge missed is read from the log.
extension EdgeHub {
    /// Something is missing: read it from the log, and tell the subscribers where it is gone.
    func repair(_ edge: RoomEdge) {
        guard case .live = edge.state else { return }
        edge.state = .repairing
        self.metrics.repairs.increment()
        self.loop.task { await self.runRepair(edge) }
    }

    private func runRepair(_ edge: RoomEdge) async {
        var attempt = 0
        var timesBehind = 0
        edge.repairsInARow += 1
        if edge.repairsInARow > 1 {
            // What the log said last time was not what arrives: its owner may not know of its end yet.
            await self.loop.sleep(for: .milliseconds(20 * min(10, edge.repairsInARow)))
        }
        while self.edges[edge.channel.name] === edge, !self.isStopped {
            let position = edge.cursor.position
            do throws(FanfareError) {
                let since = StreamPosition(offset: position.offset, epoch: "")
                edge.beginRead()
                let page = try await self.log.history(HistoryFilter(limit: -1, since: since), of: edge.channel)
                guard self.edges[edge.channel.name] === edge else { return }
                // An owner that does not know yet that it is none any more may answer from an old memory: ask again
                // before the log is believed to have lost something.
                if page.top.epoch == position.epoch, page.top.offset < position.offset, timesBehind < 4 {
                    timesBehind += 1
                    await self.loop.sleep(for: .milliseconds(50 * timesBehind))
                    continue
                }
                if self.apply(page, to: edge) { return self.goLive(edge) }
            } catch {
                self.logger.debug(
                    "a gap cannot be repaired yet", metadata: ["room": "\(edge.channel)", "error": "\(error)"])
                attempt += 1
                await self.loop.sleep(for: self.backoff.delay(attempt: attempt, random: self.random()))
            }
        }
    }

    /// - Returns: whether the edge is now where the log is.
    private func apply(_ page: RoomHistory, to edge: RoomEdge) -> Bool {
        let position = edge.cursor.position
        let isForked = page.top.epoch != position.epoch || page.top.offset < position.offset
        let continues =
            page.entries.first.map { $0.offset == position.offset + 1 } ?? (page.top.offset <= position.offset)
        guard !isForked, continues else {
            self.loseSubscribers(of: edge)
            edge.reset(to: page.top)
            return true
        }
        guard let last = page.entries.last else { return true }
        edge.cursor.reset(to: StreamPosition(offset: last.offset, epoch: position.epoch))
        self.fanOut(page.entries.map(\.body), first: position.offset + 1, edge)
        return last.offset >= page.top.offset
    }

    func loseSubscribers(of edge: RoomEdge) {
        let lost = edge.removeAll()
        guard !lost.isEmpty else { return }
        self.logger.notice(
            "subscribers cannot be brought up to date: told to subscribe again",
            metadata: ["room": "\(edge.channel)", "subscribers": "\(lost.count)"])
        for subscriber in lost { self.tellInsufficient(subscriber, edge.channel) }
    }

    func tellInsufficient(_ subscriber: Subscriber, _ channel: Channel) {
        self.metrics.insufficientState.increment()
        subscriber.session.onThisLoop { $0.ended(channel.name, .insufficientState) }
    }

    /// The broker's link was away: whatever was published meanwhile is missing.
    func linkRestored() {
        for edge in self.edges.values.sorted(by: { $0.channel.name < $1.channel.name }) { self.repair(edge) }
        self.repairInboxes()
    }

    /// The last publication of a quiet room may be lost without a gap to show for it: positions are compared now and then.
    func scheduleCheck() {
        guard !self.isStopped else { return }
        self.loop.schedule(after: .seconds(1)) {
            self.onThisLoop { hub in
                hub.checkQuietEdges()
                hub.scheduleCheck()
            }
        }
    }

    private func checkQuietEdges() {
        let limit = self.loop.now + (.zero - self.limits.checkInterval)
        for edge in self.edges.values where edge.lastChecked < limit && !edge.subscribers.isEmpty {
            guard self.checksUnderWay < self.limits.checksAtOnce else { return }
            guard case .live = edge.state else { continue }
            edge.lastChecked = self.loop.now
            self.checksUnderWay += 1
            self.loop.task {
                await self.check(edge)
                self.checksUnderWay -= 1
            }
        }
    }

    private func check(_ edge: RoomEdge) async {
        guard let page = try? await self.log.history(HistoryFilter(limit: 0), of: edge.channel) else { return }
        guard self.edges[edge.channel.name] === edge, case .live = edge.state else { return }
        let here = edge.cursor.position
        // A publication under way just now is no loss: the repair finds it delivered.
        if page.top.epoch != here.epoch || page.top.offset > here.offset { self.repair(edge) }
    }
}
