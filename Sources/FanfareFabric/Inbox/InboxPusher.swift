import FanfareCore
import FanfareEngines
import FanfareModel
import Logging

/// Brings committed inbox rows to the sessions of those users who are online, on whatever nodes. At least once: sessions
/// drop what they were given before, by sequence. A node that does not answer is given up, which is no loss: nodes compare
/// their sessions with the inbox when their link is back, when they had been counted out, and every half minute.
package actor InboxPusher {
    package nonisolated let unownedExecutor: UnownedSerialExecutor
    private let loop: any Loop
    private let map: ClusterMap
    private let peers: Peers
    private let hubs: [EdgeHub]
    private let backoff = Backoff(base: .milliseconds(50), cap: .seconds(1))
    private let random: @Sendable () -> UInt64
    private let logger: Logger
    private let metrics: FabricMetrics

    /// How often a node is asked before it is left to the recovery.
    private static let attempts = 4
    private static let answerTime: Duration = .seconds(2)
    private static let pause: Duration = .milliseconds(100)

    init(
        loop: any Loop, map: ClusterMap, peers: Peers, hubs: [EdgeHub], random: @escaping @Sendable () -> UInt64,
        logger: Logger, metrics: FabricMetrics
    ) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.loop = loop
        self.map = map
        self.peers = peers
        self.hubs = hubs
        self.random = random
        self.logger = logger
        self.metrics = metrics
    }

    /// - Returns: to how many users it was delivered.
    func push(_ chunk: FanoutChunk) async -> Int {
        guard !chunk.users.isEmpty else { return 0 }
        let entry = InboxEntry(
            sequence: chunk.sequence, event: chunk.event, type: chunk.type, data: chunk.data,
            createdAt: chunk.createdAt, isRead: false)
        let push = InboxPush(entry)
        let nodes = self.map.view?.members.map(\.node) ?? []
        let tasks = nodes.map { node in self.loop.task { await self.push(push, to: chunk.users, on: node) } }
        var delivered = 0
        for task in tasks { delivered += await task.value }
        return delivered
    }

    private func push(_ push: InboxPush, to users: [UserID], on node: NodeID) async -> Int {
        guard node != self.map.node else { return await self.deliverHere(push, to: users) }
        var attempt = 0
        while attempt < InboxPusher.attempts {
            if attempt > 0 {
                await self.loop.sleep(for: self.backoff.delay(attempt: attempt, random: self.random()))
                guard self.map.view?.member(node) != nil else { return 0 }
            }
            do throws(PeerFailure) {
                let response = try await self.peers.request(
                    .inboxPush(push, users: users), of: node, timeout: InboxPusher.answerTime)
                if case .count(let delivered) = response { return delivered }
                return 0
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
        self.logger.notice("a node did not answer a push", metadata: ["peer": "\(node)"])
        return 0
    }

    /// To the users' sessions on this node.
    /// - Returns: to how many users it was delivered.
    func deliverHere(_ push: InboxPush, to users: [UserID]) async -> Int {
        var reached = Set<UserID>()
        for hub in self.hubs { reached.formUnion(await hub.deliver(push, to: users)) }
        return reached.count
    }

    /// To all of a user's sessions on this node but one.
    func noticeHere(_ push: InboxPush, user: UserID, except client: ClientID?) async {
        for hub in self.hubs { await hub.deliver(push, user: user, except: client) }
    }
}

extension EdgeHub {
    func deliver(_ push: InboxPush, to users: [UserID]) -> [UserID] {
        users.filter { user in
            var isDelivered = false
            for session in self.sessions(of: user) where session.onThisLoop({ $0.deliver(push) }) {
                isDelivered = true
            }
            return isDelivered
        }
    }

    func deliver(_ push: InboxPush, user: UserID, except client: ClientID?) {
        for session in self.sessions(of: user) where session.client != client {
            _ = session.onThisLoop { $0.deliver(push) }
        }
    }
}
