import FanfareCore
package import FanfareEngines
package import FanfareModel
import Logging

/// Brings committed inbox rows to the sessions of those users who are online, on the nodes where they are.
///
/// At least once: sessions drop what they were given before, by sequence. A node that does not answer is given up after a
/// while, and then *owes* a comparison: nothing is pushed to it until it has agreed to compare the inboxes of its users
/// with what they were given. `PushLink` finds what was lost in any other way.
package actor InboxPusher {
    package struct Limits: Sendable, Hashable {
        /// Recipients of one message.
        package var recipients = 10_000
        /// Bytes of events in one message, roughly; at least one event.
        package var bytes = 256 << 10
        /// How often a node is asked before it owes a comparison.
        package var attempts = 3
        package var answerTime: Duration = .seconds(2)

        package init() {}
    }

    package nonisolated let unownedExecutor: UnownedSerialExecutor
    private let loop: any Loop
    private let map: ClusterMap
    private let peers: Peers
    private let online: OnlineUsers
    private let hubs: [EdgeHub]
    private let limits: Limits
    private let backoff = Backoff(base: .milliseconds(50), cap: .seconds(1))
    private let random: @Sendable () -> UInt64
    private let logger: Logger
    private let metrics: FabricMetrics

    /// By the node that is pushed to: this one and those of the view.
    private var sources: [NodeID: PushChainSource] = [:]
    private var sourcesMade: UInt64 = 0
    private var sink = PushChainSink()
    /// Shards of whose users pushes were lost, by the node that they were meant for.
    private var owed: [NodeID: Set<Shard>] = [:]

    private static let pause: Duration = .milliseconds(100)

    init(
        loop: any Loop, map: ClusterMap, peers: Peers, online: OnlineUsers, hubs: [EdgeHub], limits: Limits,
        random: @escaping @Sendable () -> UInt64, logger: Logger, metrics: FabricMetrics
    ) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.loop = loop
        self.map = map
        self.peers = peers
        self.online = online
        self.hubs = hubs
        self.limits = limits
        self.random = random
        self.logger = logger
        self.metrics = metrics
    }

    /// Pushes what was committed: one message per node that has recipients, unless it would be too large. Of one user the
    /// pushes must come in the order of their sequences, in this call and from call to call.
    /// - Parameter fences: those by which the rows were written.
    /// - Returns: for each push the number of users to whom it was delivered.
    package func push(_ pushes: [FanoutPush], by fences: [Shard: Fence]) async -> [Int] {
        let messages = self.divide(pushes)
        guard !messages.isEmpty else { return pushes.map { _ in 0 } }
        let tasks = messages.sorted { $0.key < $1.key }.map { node, messages in
            self.loop.task { await self.push(messages, to: node, by: fences) }
        }
        var delivered = pushes.map { _ in Set<UserKey>() }
        for task in tasks {
            for (index, users) in await task.value { delivered[index].formUnion(users) }
        }
        return delivered.map(\.count)
    }

    /// What goes to one node at once.
    private struct Message: Sendable {
        var pushes: [FanoutPush] = []
        /// Which of the caller's pushes each one is.
        var indices: [Int] = []
        var shards: Set<Shard> = []
        var recipients = 0
        var bytes = 0
    }

    /// Looks the recipients up, and gives each node those that are there.
    private func divide(_ pushes: [FanoutPush]) -> [NodeID: [Message]] {
        var messages: [NodeID: [Message]] = [:]
        for (index, push) in pushes.enumerated() {
            self.online.locate(push.recipients, \.user) { recipient, shard, node in
                var message = messages[node]?.popLast() ?? Message()
                if message.recipients >= self.limits.recipients
                    || message.indices.last != index && !message.pushes.isEmpty
                        && message.bytes + push.data.count > self.limits.bytes
                {
                    messages[node, default: []].append(message)
                    message = Message()
                }
                if message.indices.last != index {
                    message.indices.append(index)
                    var empty = push
                    empty.recipients = []
                    message.pushes.append(empty)
                    message.bytes += push.data.count
                }
                message.pushes[message.pushes.count - 1].recipients.append(push.recipients[recipient])
                message.recipients += 1
                message.shards.insert(shard)
                messages[node, default: []].append(message)
            }
        }
        return messages
    }

    /// - Returns: whom it reached, by the caller's index.
    private func push(
        _ messages: [Message], to node: NodeID, by fences: [Shard: Fence]
    ) async -> [(Int, [UserKey])] {
        var reached: [(Int, [UserKey])] = []
        // One after the other, so that they arrive in order.
        for message in messages {
            let links = self.links(message.shards, to: node, by: fences)
            guard let missed = await self.push(message, links, to: node) else { continue }
            for (place, index) in message.indices.enumerated() {
                let absent = Set(place < missed.count ? missed[place] : [])
                reached.append((index, message.pushes[place].recipients.map(\.user).filter { !absent.contains($0) }))
            }
        }
        return reached
    }

    private func links(_ shards: Set<Shard>, to node: NodeID, by fences: [Shard: Fence]) -> [PushLink] {
        if self.sources[node] == nil {
            // Forgets who left.
            self.sources = self.sources.filter { self.map.view?.member($0.key) != nil }
            self.sourcesMade += 1
            self.sources[node] = PushChainSource(salt: self.sourcesMade)
        }
        return self.sources[node]?.next(shards, by: fences) ?? []
    }

    /// - Returns: for each push those who were not there; nil where the node gave no answer.
    private func push(_ message: Message, _ links: [PushLink], to node: NodeID) async -> [[UserKey]]? {
        guard node != self.map.node else { return await self.deliverHere(message.pushes, links) }
        guard self.owed[node] == nil else {
            self.owed[node]?.formUnion(message.shards)
            return nil
        }
        var attempt = 0
        while attempt < self.limits.attempts {
            if attempt > 0 {
                await self.loop.sleep(for: self.backoff.delay(attempt: attempt, random: self.random()))
                // Who left the membership announces its users again, and compares then.
                guard self.map.view?.member(node) != nil else { return nil }
            }
            self.metrics.inboxPushMessages.increment()
            do throws(PeerFailure) {
                let response = try await self.peers.request(
                    .inboxPushes(message.pushes, links), of: node, timeout: self.limits.answerTime,
                    bytes: self.metrics.inboxPushBytes)
                if case .missed(let missed) = response { return missed }
                // It does not understand: as good as lost.
                break
            } catch {
                // This node's own link is away for a moment: that is no attempt, as long as the others count on this node.
                if error == .unavailable || error == .overloaded, self.map.holdsLease(at: self.loop.now) {
                    await self.loop.sleep(for: InboxPusher.pause)
                } else {
                    attempt += 1
                }
            }
        }
        self.metrics.inboxPushesLost.increment()
        self.logger.notice("a node did not answer a push: it has to compare", metadata: ["peer": "\(node)"])
        self.owe(message.shards, node)
        return nil
    }

    // MARK: Lost pushes

    /// This node may not know any more who of these shards is online elsewhere: all others have to compare.
    func distrust(_ shards: Set<Shard>) {
        for member in self.map.view?.members ?? [] where member.node != self.map.node {
            self.owe(shards, member.node)
        }
    }

    private func owe(_ shards: Set<Shard>, _ node: NodeID) {
        guard self.owed[node] == nil else {
            self.owed[node]?.formUnion(shards)
            return
        }
        self.owed[node] = shards
        self.loop.task { await self.demandComparison(of: node) }
    }

    /// Asks until the node agreed and nothing was held back meanwhile, or until it left the membership.
    private func demandComparison(of node: NodeID) async {
        var attempt = 0
        while let shards = self.owed[node] {
            // A later incarnation has no session of before; one that was counted out compares when it is back.
            guard self.map.view?.member(node) != nil else { break }
            self.owed[node] = []
            let response = try? await self.peers.request(
                .doubtInboxes(shards.sorted()), of: node, timeout: self.limits.answerTime)
            if case .done = response {
                if self.owed[node]?.isEmpty != false { break }
                attempt = 0
            } else {
                self.owed[node]?.formUnion(shards)
                await self.loop.sleep(for: self.backoff.delay(attempt: attempt, random: self.random()))
                attempt += 1
            }
        }
        self.owed[node] = nil
    }

    // MARK: Here

    /// To the users' sessions on this node.
    /// - Returns: for each push the users who have none.
    func deliverHere(_ pushes: [FanoutPush], _ links: [PushLink]) async -> [[UserKey]] {
        let broken = self.sink.broken(by: links)
        if !broken.isEmpty { self.metrics.inboxChainBreaks.increment(by: broken.count) }
        var missed: [Set<UserKey>] = []
        for (index, hub) in self.hubs.enumerated() {
            let some = await hub.deliver(pushes, missing: broken)
            if index == 0 {
                missed = some.map { Set($0) }
            } else {
                for place in missed.indices { missed[place].formIntersection(some[place]) }
            }
        }
        // Not before all loops have it: who gets the message again meanwhile compares once more.
        self.sink.follow(links)
        return missed.map { $0.sorted() }
    }

    /// To all of a user's sessions on this node but one.
    func noticeHere(_ push: InboxPush, user: UserID, except client: ClientID?) async {
        for hub in self.hubs { await hub.deliver(push, user: user, except: client) }
    }

    /// The user's sessions on this node go by the new preferences when it returns.
    func preferencesChangedHere(_ notice: InboxPush, user: UserID, except client: ClientID?) async {
        for hub in self.hubs { await hub.preferencesChanged(notice, user: user, except: client) }
    }
}

extension EdgeHub {
    /// - Returns: for each push the users without a session on this loop.
    func deliver(_ pushes: [FanoutPush]) -> [[UserKey]] {
        pushes.map { push in
            // Recipients come in runs of one sequence.
            var last: InboxPush?
            return push.recipients.compactMap { recipient in
                let sessions = self.sessions(of: recipient.user)
                guard !sessions.isEmpty else { return recipient.user }
                let notification: InboxPush
                if let last, last.sequence == recipient.sequence {
                    notification = last
                } else {
                    notification = InboxPush(push, sequence: recipient.sequence)
                    last = notification
                }
                var isDelivered = false
                for session in sessions where session.onThisLoop({ $0.deliver(notification) }) { isDelivered = true }
                return isDelivered ? nil : recipient.user
            }
        }
    }

    func deliver(_ push: InboxPush, user: UserID, except client: ClientID?) {
        for session in self.sessions(of: user) where session.client != client {
            _ = session.onThisLoop { $0.deliver(push) }
        }
    }
}

extension InboxPush {
    init(_ push: FanoutPush, sequence: UInt64) {
        self.init(
            InboxEntry(
                sequence: sequence, event: push.event, type: push.type, data: push.data, createdAt: push.createdAt,
                isRead: false, expiresAt: push.expiresAt, streamer: push.streamer, isStale: push.isStale))
    }
}
