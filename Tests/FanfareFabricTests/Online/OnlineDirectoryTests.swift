import FanfareModel
import Testing

@testable import FanfareFabric

@Suite("Who is online, as the owner of a shard knows it") struct OnlineDirectoryTests {
    static let shard = Shard(index: 3)
    static let (a, b) = (NodeID("a"), NodeID("b"))

    static func keys(_ keys: Int64...) -> [UserKey] { keys.map(UserKey.init) }

    static func snapshot(_ version: UInt64, _ keys: Int64..., shard: Shard = shard) -> OnlineAnnouncement {
        OnlineAnnouncement(shard: shard, base: nil, version: version, joins: keys.map(UserKey.init))
    }

    static func change(
        _ base: UInt64, _ version: UInt64, joins: [Int64] = [], leaves: [Int64] = []
    ) -> OnlineAnnouncement {
        OnlineAnnouncement(
            shard: shard, base: base, version: version, joins: joins.map(UserKey.init),
            leaves: leaves.map(UserKey.init))
    }

    static func summary(_ keys: Int64...) -> UserSummary {
        keys.reduce(into: UserSummary()) { $0.joined(UserKey($1)) }
    }

    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var announcements: [OnlineAnnouncement]
        /// Of the last one.
        var outcome = OnlineDirectory.Outcome.taken(refused: 0)
        var users: [Int64]
    }

    static let cases = [
        Case(testDescription: "a snapshot", announcements: [snapshot(1, 1, 2)], users: [1, 2]),
        Case(
            testDescription: "a snapshot replaces what was", announcements: [snapshot(1, 1, 2), snapshot(2, 2, 3)],
            users: [2, 3]),
        Case(
            testDescription: "an old snapshot does not", announcements: [snapshot(2, 1), snapshot(1, 2)], users: [1]),
        Case(
            testDescription: "a change",
            announcements: [snapshot(1, 1, 2), change(1, 2, joins: [3], leaves: [1])], users: [2, 3]),
        Case(
            testDescription: "a repeated change does nothing",
            announcements: [
                snapshot(1, 1), change(1, 2, joins: [2]), change(2, 3, leaves: [2]), change(1, 2, joins: [2]),
            ], users: [1]),
        Case(
            testDescription: "a wider change after one whose answer was lost",
            announcements: [snapshot(1, 1), change(1, 2, joins: [2]), change(1, 3, joins: [3], leaves: [2])],
            users: [1, 3]),
        Case(
            testDescription: "a change whose predecessor is missing",
            announcements: [snapshot(1, 1), change(2, 3, joins: [3])], outcome: .wanted, users: [1]),
        Case(
            testDescription: "a change from a node that is not known", announcements: [change(4, 5, joins: [3])],
            outcome: .wanted, users: []),
        Case(
            testDescription: "users named twice, or absent ones that leave",
            announcements: [snapshot(1, 1, 1), change(1, 2, joins: [1, 2, 2], leaves: [7])], users: [1, 2]),
    ]

    @Test(arguments: cases) func announcements(_ it: Case) {
        let directory = DirectoryBox()
        var outcome = OnlineDirectory.Outcome.wanted
        for announcement in it.announcements { outcome = directory.apply(announcement, from: Self.a) }
        #expect(outcome == it.outcome)
        #expect(directory.users(in: Self.shard).sorted() == it.users.map(UserKey.init))
        #expect(directory.count == it.users.count && directory.count(in: Self.shard) == it.users.count)
    }

    func places(_ directory: DirectoryBox, _ user: Int64) -> [NodeID] {
        var nodes: [NodeID] = []
        directory.locate(UserKey(user)) { shard, node in
            #expect(shard == Self.shard)
            nodes.append(node)
        }
        return nodes.sorted()
    }

    @Test func aUserOnTwoNodes() {
        let directory = DirectoryBox()
        directory.apply(Self.snapshot(1, 1, 2), from: Self.a)
        directory.apply(Self.snapshot(1, 2, 3), from: Self.b)
        #expect(directory.count == 3 && directory.users(in: Self.shard).count == 3)
        #expect(self.places(directory, 1) == [Self.a])
        #expect(self.places(directory, 2) == [Self.a, Self.b])
        directory.apply(Self.change(1, 2, leaves: [2]), from: Self.a)
        #expect(self.places(directory, 2) == [Self.b])
        #expect(self.places(directory, 4).isEmpty)
    }

    @Test func anotherIncarnationBeginsAnew() {
        let directory = DirectoryBox()
        directory.apply(Self.snapshot(9, 1, 2), from: Self.a, incarnation: "old")
        #expect(directory.apply(Self.change(9, 10, joins: [3]), from: Self.a, incarnation: "new") == .wanted)
        #expect(directory.count == 0)
        directory.apply(Self.snapshot(1, 3), from: Self.a, incarnation: "new")
        #expect(self.places(directory, 3) == [Self.a])
    }

    @Test func whoLeftIsForgotten() {
        let directory = DirectoryBox()
        let other = Shard(index: 4)
        directory.apply(Self.snapshot(1, 1), from: Self.a)
        directory.apply(Self.snapshot(1, 1, 2), from: Self.b)
        directory.apply(Self.snapshot(1, 3, shard: other), from: Self.b)
        directory.keep(isMember: { node, _ in node == Self.b }, isOwned: { _ in true })
        #expect(self.places(directory, 1) == [Self.b] && directory.count == 3)
        directory.keep(isMember: { _, _ in true }, isOwned: { $0 == Self.shard })
        #expect(directory.count == 2 && directory.users(in: other).isEmpty)
        // A number of a node that is gone is given to the next.
        directory.apply(Self.snapshot(1, 1), from: NodeID("c"))
        #expect(self.places(directory, 1) == [Self.b, NodeID("c")])
    }

    @Test func digests() {
        let directory = DirectoryBox()
        func differs(_ version: UInt64, _ summary: UserSummary, incarnation: String = "i") -> Bool {
            directory.differs(
                OnlineDigest(shard: Self.shard, version: version, summary: summary), from: Self.a,
                incarnation: incarnation)
        }
        #expect(!differs(1, Self.summary()))
        #expect(differs(1, Self.summary(1)))
        directory.apply(Self.snapshot(2, 1, 2), from: Self.a)
        #expect(!differs(2, Self.summary(2, 1)))
        #expect(differs(2, Self.summary(1)))
        #expect(differs(2, Self.summary(1, 3)))
        #expect(differs(3, Self.summary(1, 2)), "an announcement is missing")
        #expect(!differs(1, Self.summary(1)), "an announcement has come meanwhile")
        #expect(differs(2, Self.summary(1, 2), incarnation: "j"))
    }

    @Test func noMoreThanTheLimit() {
        let directory = DirectoryBox(usersPerShard: 10)
        let eleven = OnlineAnnouncement(
            shard: Self.shard, base: nil, version: 1, joins: (1...11).map { UserKey($0) })
        #expect(directory.apply(eleven, from: Self.a) == .taken(refused: 1))
        #expect(directory.count == 10)
        // Another place of a user who is known takes no room.
        #expect(directory.apply(Self.snapshot(1, 1), from: Self.b) == .taken(refused: 0))
        #expect(directory.apply(Self.change(1, 2, joins: [12]), from: Self.b) == .taken(refused: 1))
        // Its neighbour shard has room.
        let next = Self.snapshot(1, 20, shard: Shard(index: 5))
        #expect(directory.apply(next, from: Self.a) == .taken(refused: 0))
        // Those who were refused are asked for when there is room again, not before.
        let summary = (1...11).reduce(into: UserSummary()) { $0.joined(UserKey(Int64($1))) }
        let digest = OnlineDigest(shard: Self.shard, version: 1, summary: summary)
        #expect(!directory.differs(digest, from: Self.a))
        directory.apply(Self.change(1, 2, leaves: [1, 2, 3, 4]), from: Self.a)
        var after = summary
        for key in 1...4 { after.left(UserKey(Int64(key))) }
        #expect(
            directory.differs(
                OnlineDigest(shard: Self.shard, version: 2, summary: after), from: Self.a))
    }
}
