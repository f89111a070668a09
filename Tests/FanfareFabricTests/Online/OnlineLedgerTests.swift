import FanfareModel
import Testing

@testable import FanfareFabric

@Suite("What a node announces of its users") struct OnlineLedgerTests {
    let shard = Shard(index: 3)
    let owner = OnlineLedger.Target(node: NodeID("o"), incarnation: "i")
    let other = OnlineLedger.Target(node: NodeID("p"), incarnation: "i")

    func ledger(_ limits: OnlineLimits = OnlineLimits()) -> LedgerBox {
        let ledger = LedgerBox(limits)
        ledger.retarget(self.shard, to: self.owner)
        ledger.holdPushes(of: ledger.doubted)
        return ledger
    }

    /// A ledger whose users are known to the owner.
    func ledger(knowing users: [Int64]) throws -> LedgerBox {
        let ledger = self.ledger()
        for user in users { #expect(!ledger.joined(UserKey(user), self.shard)) }
        let batch = try #require(ledger.take(for: self.owner.node))
        #expect(ledger.acknowledged(batch) == users.map(UserKey.init))
        return ledger
    }

    func next(_ ledger: LedgerBox) throws -> (OnlineLedger.Batch, OnlineAnnouncement) {
        let batch = try #require(ledger.take(for: self.owner.node))
        #expect(batch.announcements.count == 1)
        return (batch, batch.announcements[0])
    }

    @Test func theFirstAnnouncementIsASnapshot() throws {
        let ledger = self.ledger()
        #expect(ledger.due.isEmpty && ledger.take(for: self.owner.node) == nil, "nobody is here: nothing to say")
        #expect(!ledger.joined(UserKey(1), self.shard))
        #expect(ledger.due == [self.owner.node])
        let (batch, announcement) = try self.next(ledger)
        #expect(announcement.base == nil && announcement.joins == [UserKey(1)])
        #expect(ledger.take(for: self.owner.node) == nil, "one at a time")
        #expect(ledger.acknowledged(batch) == [UserKey(1)])
        #expect(ledger.isKnown(UserKey(1), self.shard))
    }

    @Test func comingAndGoing() throws {
        let ledger = try self.ledger(knowing: [1, 2])
        // A second loop has sessions of the user, and the first has none any more: nothing to say.
        #expect(ledger.joined(UserKey(1), self.shard))
        ledger.left(UserKey(1), self.shard)
        #expect(ledger.due.isEmpty)
        ledger.left(UserKey(1), self.shard)
        #expect(!ledger.joined(UserKey(3), self.shard))
        // Gone and back, come and gone: nothing to say.
        ledger.left(UserKey(2), self.shard)
        #expect(ledger.joined(UserKey(2), self.shard))
        #expect(!ledger.joined(UserKey(4), self.shard))
        ledger.left(UserKey(4), self.shard)
        let (batch, announcement) = try self.next(ledger)
        #expect(announcement.base == 1 && announcement.version == 2)
        #expect(announcement.joins == [UserKey(3)] && announcement.leaves == [UserKey(1)])
        #expect(ledger.acknowledged(batch) == [UserKey(3)])
        // Somebody who never came.
        ledger.left(UserKey(77), self.shard)
        #expect(ledger.due.isEmpty)
    }

    @Test("what may or may not have been taken is said again, with what came since") func lostAnswers() throws {
        let ledger = try self.ledger(knowing: [1])
        #expect(!ledger.joined(UserKey(2), self.shard))
        let (lost, first) = try self.next(ledger)
        ledger.left(UserKey(2), self.shard)
        #expect(!ledger.joined(UserKey(3), self.shard))
        ledger.failed(lost)
        let (batch, second) = try self.next(ledger)
        #expect(second.base == first.base && second.version > first.version)
        #expect(second.joins == [UserKey(3)] && second.leaves == [UserKey(2)])
        // The late answer to the first one says nothing.
        #expect(ledger.acknowledged(lost).isEmpty)
        #expect(ledger.acknowledged(batch) == [UserKey(3)])
    }

    @Test func uncertainChangesDoNotCancelEachOtherOut() throws {
        let ledger = try self.ledger(knowing: [1])
        #expect(!ledger.joined(UserKey(2), self.shard))
        let (lost, _) = try self.next(ledger)
        ledger.failed(lost)
        ledger.left(UserKey(2), self.shard)
        #expect(try self.next(ledger).1.leaves == [UserKey(2)], "the owner may have taken the join")
    }

    @Test func aRefusalIsRepeated() throws {
        let ledger = try self.ledger(knowing: [1])
        #expect(!ledger.joined(UserKey(2), self.shard))
        let (batch, _) = try self.next(ledger)
        #expect(ledger.acknowledged(batch, OnlineAnswer(refused: [self.shard])).isEmpty)
        #expect(try self.next(ledger).1.joins == [UserKey(2)])
    }

    @Test("an owner that knows something else is told everything, and pushes are held before") func wanted() throws {
        let ledger = try self.ledger(knowing: [1])
        #expect(!ledger.joined(UserKey(2), self.shard))
        let (batch, _) = try self.next(ledger)
        #expect(ledger.acknowledged(batch, OnlineAnswer(wanted: [self.shard])).isEmpty)
        #expect(!ledger.isKnown(UserKey(1), self.shard))
        #expect(ledger.doubted == [self.shard] && ledger.take(for: self.owner.node) == nil)
        ledger.holdPushes(of: [self.shard])
        let (snapshot, announcement) = try self.next(ledger)
        #expect(announcement.base == nil && announcement.joins == [UserKey(1), UserKey(2)])
        #expect(ledger.acknowledged(snapshot) == [UserKey(1), UserKey(2)])
    }

    @Test func anotherOwner() throws {
        let ledger = try self.ledger(knowing: [1])
        #expect(!ledger.joined(UserKey(2), self.shard))
        let (batch, _) = try self.next(ledger)
        #expect(!ledger.retarget(self.shard, to: self.owner), "the same one")
        #expect(ledger.retarget(self.shard, to: self.other))
        #expect(ledger.acknowledged(batch).isEmpty, "of yesterday's owner")
        #expect(ledger.due.isEmpty && ledger.doubted == [self.shard])
        ledger.holdPushes(of: [self.shard])
        #expect(ledger.due == [self.other.node])
        let snapshot = try #require(ledger.take(for: self.other.node))
        #expect(snapshot.target == self.other)
        #expect(ledger.acknowledged(snapshot) == [UserKey(1), UserKey(2)])
        // The same name after a restart is another one, and no owner at all is none.
        #expect(ledger.retarget(self.shard, to: OnlineLedger.Target(node: self.other.node, incarnation: "j")))
        #expect(ledger.retarget(self.shard, to: nil))
        #expect(!ledger.joined(UserKey(3), self.shard) && ledger.due.isEmpty)
    }

    @Test func whoWasCountedOutTellsAllAgain() throws {
        let ledger = try self.ledger(knowing: [1])
        ledger.left(UserKey(1), self.shard)
        let (batch, _) = try self.next(ledger)
        ledger.renew()
        ledger.holdPushes(of: ledger.doubted)
        #expect(ledger.acknowledged(batch).isEmpty)
        let (_, announcement) = try self.next(ledger)
        #expect(announcement.base == nil && announcement.joins.isEmpty, "the owner may still think of somebody")
    }

    @Test func digests() throws {
        let ledger = try self.ledger(knowing: [1, 2])
        let digest = try #require(ledger.digests()[self.owner]?.first)
        #expect(digest.version == 1 && digest.summary == OnlineDirectoryTests.summary(1, 2))
        #expect(ledger.compared([digest], by: self.owner, OnlineAnswer(refused: [self.shard])) == 0)
        #expect(ledger.compared([digest], by: self.other, OnlineAnswer(wanted: [self.shard])) == 0)
        #expect(!ledger.joined(UserKey(3), self.shard))
        #expect(ledger.digests().isEmpty, "there is something to announce")
        ledger.acknowledged(try self.next(ledger).0)
        #expect(ledger.compared([digest], by: self.owner, OnlineAnswer(wanted: [self.shard])) == 0, "an old one")
        let newer = try #require(ledger.digests()[self.owner])
        #expect(ledger.compared(newer, by: self.owner, OnlineAnswer(wanted: [self.shard])) == 1)
        #expect(ledger.doubted == [self.shard])
    }

    @Test("too many changes become a snapshot") func overflow() throws {
        var limits = OnlineLimits()
        limits.changesPerShard = 3
        let ledger = self.ledger(limits)
        #expect(!ledger.joined(UserKey(1), self.shard))
        ledger.acknowledged(try self.next(ledger).0)
        for user in 2...4 as ClosedRange<Int64> { #expect(!ledger.joined(UserKey(user), self.shard)) }
        #expect(ledger.overflows == 0)
        #expect(!ledger.joined(UserKey(5), self.shard))
        #expect(ledger.overflows == 1)
        let (batch, announcement) = try self.next(ledger)
        #expect(announcement.base == nil && announcement.joins == (1...5).map { UserKey($0) })
        // Those under way count, too, when they come back.
        ledger.acknowledged(batch)
        for user in 6...8 as ClosedRange<Int64> { #expect(!ledger.joined(UserKey(user), self.shard)) }
        let (lost, _) = try self.next(ledger)
        #expect(!ledger.joined(UserKey(9), self.shard))
        ledger.failed(lost)
        #expect(ledger.overflows == 2)
        #expect(try self.next(ledger).1.base == nil)
    }

    @Test("a message names so many users") func messages() throws {
        var limits = OnlineLimits()
        limits.keysPerMessage = 10
        let ledger = LedgerBox(limits)
        for index in 0..<9 {
            ledger.retarget(Shard(index: index), to: self.owner)
            for user in 0..<4 { ledger.joined(UserKey(Int64(index * 10 + user)), Shard(index: index)) }
        }
        ledger.holdPushes(of: ledger.doubted)
        var sizes: [Int] = []
        while let batch = ledger.take(for: self.owner.node) { sizes.append(batch.announcements.count) }
        #expect(sizes == [2, 2, 2, 2, 1])
    }
}
