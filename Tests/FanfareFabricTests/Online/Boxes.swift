import FanfareModel

@testable import FanfareFabric

/// Expectations cannot call what mutates a value: references can be asked.
final class DirectoryBox {
    private var directory: OnlineDirectory

    init(usersPerShard: Int = 1000) { self.directory = OnlineDirectory(usersPerShard: usersPerShard) }

    var count: Int { self.directory.count }
    func count(in shard: Shard) -> Int { self.directory.count(in: shard) }
    func users(in shard: Shard) -> [UserKey] { self.directory.users(in: shard) }
    func locate(_ user: UserKey, _ body: (Shard, NodeID) -> Void) { self.directory.locate(user, body) }

    @discardableResult
    func apply(
        _ announcement: OnlineAnnouncement, from node: NodeID, incarnation: String = "i"
    ) -> OnlineDirectory.Outcome { self.directory.apply(announcement, from: node, incarnation: incarnation) }

    func differs(_ digest: OnlineDigest, from node: NodeID, incarnation: String = "i") -> Bool {
        self.directory.differs(digest, from: node, incarnation: incarnation)
    }

    func keep(isMember: (NodeID, String) -> Bool, isOwned: (Shard) -> Bool) {
        self.directory.keep(isMember: isMember, isOwned: isOwned)
    }
}

final class LedgerBox {
    private var ledger: OnlineLedger

    init(_ limits: OnlineLimits = OnlineLimits()) { self.ledger = OnlineLedger(limits: limits) }

    var overflows: Int { self.ledger.overflows }
    var doubted: [Shard] { self.ledger.doubted }
    var due: Set<NodeID> { self.ledger.due }
    func digests() -> [OnlineLedger.Target: [OnlineDigest]] { self.ledger.digests() }
    func isKnown(_ user: UserKey, _ shard: Shard) -> Bool { self.ledger.isKnown(user, shard) }

    @discardableResult func joined(_ user: UserKey, _ shard: Shard) -> Bool { self.ledger.joined(user, shard) }
    func left(_ user: UserKey, _ shard: Shard) { self.ledger.left(user, shard) }
    @discardableResult func retarget(_ shard: Shard, to target: OnlineLedger.Target?) -> Bool {
        self.ledger.retarget(shard, to: target)
    }
    func renew() { self.ledger.renew() }
    func holdPushes(of shards: [Shard]) { self.ledger.holdPushes(of: shards) }
    func take(for node: NodeID) -> OnlineLedger.Batch? { self.ledger.take(for: node) }
    @discardableResult
    func acknowledged(_ batch: OnlineLedger.Batch, _ answer: OnlineAnswer = OnlineAnswer()) -> [UserKey] {
        self.ledger.acknowledged(batch, answer)
    }
    func failed(_ batch: OnlineLedger.Batch) { self.ledger.failed(batch) }
    func compared(_ digests: [OnlineDigest], by target: OnlineLedger.Target, _ answer: OnlineAnswer) -> Int {
        self.ledger.compared(digests, by: target, answer)
    }
}
