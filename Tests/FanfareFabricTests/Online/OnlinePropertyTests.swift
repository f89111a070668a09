import FanfareModel
import FanfareTesting
import Testing

@testable import FanfareFabric

/// Three nodes, whose users come and go, whose messages are lost, repeated and late, and whose shards move: whoever is said
/// to be known is known, and in the end owners know exactly who is online.
@Suite("Announcements over a bad network") struct OnlinePropertyTests {
    private struct Letter {
        let batch: OnlineLedger.Batch
        let sender: Int
    }

    private struct World {
        var random: SeededGenerator
        var nodes = (0..<3).map { NodeID("n\($0)") }
        var incarnations = ["a0", "a1", "a2"]
        var ledgers: [OnlineLedger] = []
        var directories: [OnlineDirectory] = []
        /// The owner of each shard, as all nodes see it.
        var owners: [Int] = []
        /// On how many loops of each node each user is.
        var here: [[UserKey: Int]] = [[:], [:], [:]]
        var letters: [Letter] = []
        var underWay: [Letter] = []
        var lives = 0
        static let shards = 6
        static let users: Int64 = 40

        init(seed: UInt64, limits: OnlineLimits) {
            self.random = SeededGenerator(seed: seed)
            for _ in 0..<3 {
                self.ledgers.append(OnlineLedger(limits: limits))
                self.directories.append(OnlineDirectory(usersPerShard: 1000))
            }
            self.owners = (0..<World.shards).map { $0 % 3 }
            for node in 0..<3 { self.see(node) }
        }

        static func shard(_ user: UserKey) -> Shard { Shard(index: Int(user.rawValue) % self.shards) }

        mutating func below(_ bound: Int) -> Int { Int(self.random.next() % UInt64(bound)) }

        /// The node learns of the present view.
        mutating func see(_ node: Int) {
            for (index, owner) in self.owners.enumerated() {
                _ = self.ledgers[node].retarget(
                    Shard(index: index),
                    to: OnlineLedger.Target(node: self.nodes[owner], incarnation: self.incarnations[owner]))
            }
            let (nodes, incarnations, owners) = (self.nodes, self.incarnations, self.owners)
            self.directories[node].keep(
                isMember: { name, incarnation in
                    nodes.firstIndex(of: name).map { incarnations[$0] == incarnation } ?? false
                }, isOwned: { $0.index < owners.count && owners[$0.index] == node })
        }

        mutating func step() {
            let node = self.below(3)
            switch self.below(100) {
            case 0..<30:
                let user = UserKey(Int64(self.below(Int(World.users))))
                self.here[node][user, default: 0] += 1
                _ = self.ledgers[node].joined(user, World.shard(user))
            case 30..<55:
                guard let user = self.here[node].keys.sorted().randomElement(using: &self.random) else { return }
                self.here[node][user]? -= 1
                if self.here[node][user] == 0 { self.here[node][user] = nil }
                self.ledgers[node].left(user, World.shard(user))
            case 55..<72: self.send(from: node)
            case 72..<92: self.deliver()
            case 92..<94: self.compare(node)
            case 94..<97:
                self.owners[self.below(World.shards)] = self.below(3)
                for node in 0..<3 { self.see(node) }
            case 97: self.ledgers[node].renew()
            case 98: self.restart(node)
            default:
                // The owner loses everything of the sender, and tells nobody.
                self.directories[node].keep(isMember: { _, _ in false }, isOwned: { _ in true })
            }
        }

        mutating func send(from node: Int) {
            self.ledgers[node].holdPushes(of: self.ledgers[node].doubted)
            let due = self.ledgers[node].due.sorted()
            guard let target = due.randomElement(using: &self.random), let batch = self.ledgers[node].take(for: target)
            else { return }
            self.underWay.append(Letter(batch: batch, sender: node))
        }

        /// A letter arrives, or does not, or arrives without its answer, and may arrive once more much later.
        mutating func deliver() {
            if !self.letters.isEmpty, self.below(4) == 0 {
                _ = self.arrive(self.letters.remove(at: self.below(self.letters.count)))
                return
            }
            guard !self.underWay.isEmpty else { return }
            let letter = self.underWay.remove(at: self.below(self.underWay.count))
            switch self.below(6) {
            case 0:
                self.ledgers[letter.sender].failed(letter.batch)
                self.letters.append(letter)
            case 1:
                _ = self.arrive(letter)
                self.ledgers[letter.sender].failed(letter.batch)
            default:
                if self.below(3) == 0 { self.letters.append(letter) }
                let answer = self.arrive(letter)
                for user in self.ledgers[letter.sender].acknowledged(letter.batch, answer) {
                    self.checkKnown(user, by: letter)
                }
            }
        }

        func target(_ name: NodeID) -> Int { self.nodes.firstIndex(of: name) ?? 0 }

        mutating func arrive(_ letter: Letter) -> OnlineAnswer {
            var answer = OnlineAnswer()
            let receiver = self.target(letter.batch.target.node)
            for announcement in letter.batch.announcements {
                // What a process of before sent is refused by the view, and so is what others own.
                guard letter.batch.target.incarnation == self.incarnations[receiver],
                    self.owners[announcement.shard.index] == receiver
                else {
                    answer.refused.append(announcement.shard)
                    continue
                }
                let outcome = self.directories[receiver].apply(
                    announcement, from: self.nodes[letter.sender], incarnation: self.incarnations[letter.sender])
                if outcome == .wanted { answer.wanted.append(announcement.shard) }
            }
            return answer
        }

        func isFound(_ user: UserKey, on node: Int) -> Bool {
            var isFound = false
            self.directories[self.owners[World.shard(user).index]].locate(user) { _, place in
                if place == self.nodes[node] { isFound = true }
            }
            return isFound
        }

        func checkKnown(_ user: UserKey, by letter: Letter) {
            // Who has left meanwhile may be forgotten.
            guard self.here[letter.sender][user] != nil else { return }
            #expect(self.isFound(user, on: letter.sender), "\(user) on \(letter.sender) was said to be known")
        }

        mutating func compare(_ node: Int) {
            for (target, digests) in self.ledgers[node].digests().sorted(by: { $0.key.node < $1.key.node }) {
                let receiver = self.target(target.node)
                guard target.incarnation == self.incarnations[receiver] else { continue }
                var answer = OnlineAnswer()
                for digest in digests where self.owners[digest.shard.index] == receiver {
                    if self.directories[receiver].differs(
                        digest, from: self.nodes[node], incarnation: self.incarnations[node])
                    {
                        answer.wanted.append(digest.shard)
                    }
                }
                _ = self.ledgers[node].compared(digests, by: target, answer)
            }
        }

        /// The process ends, and comes back with nobody.
        mutating func restart(_ node: Int) {
            self.lives += 1
            self.incarnations[node] = "b\(self.lives)"
            self.ledgers[node] = OnlineLedger()
            self.directories[node] = OnlineDirectory(usersPerShard: 1000)
            self.here[node] = [:]
            self.letters.removeAll { $0.sender == node }
            self.underWay.removeAll { $0.sender == node }
            for node in 0..<3 { self.see(node) }
        }

        /// No more faults: digests and announcements until nothing is left to say.
        mutating func settle() {
            for letter in self.underWay { self.ledgers[letter.sender].failed(letter.batch) }
            self.underWay = []
            for _ in 0..<4 {
                for node in 0..<3 {
                    self.compare(node)
                    self.ledgers[node].holdPushes(of: self.ledgers[node].doubted)
                    while let target = self.ledgers[node].due.sorted().first,
                        let batch = self.ledgers[node].take(for: target)
                    {
                        let letter = Letter(batch: batch, sender: node)
                        _ = self.ledgers[node].acknowledged(batch, self.arrive(letter))
                        self.ledgers[node].holdPushes(of: self.ledgers[node].doubted)
                    }
                }
            }
        }
    }

    @Test(arguments: 1...150 as ClosedRange<UInt64>) func ownersKnowWhoIsOnline(seed: UInt64) {
        var limits = OnlineLimits()
        if seed % 3 == 0 { limits.changesPerShard = 3 }
        var world = World(seed: seed, limits: limits)
        for _ in 0..<600 { world.step() }
        world.settle()
        for user in (0..<World.users).map(UserKey.init) {
            for node in 0..<3 {
                #expect(
                    world.isFound(user, on: node) == (world.here[node][user] != nil), "seed \(seed): \(user) on \(node)"
                )
                if world.here[node][user] != nil {
                    #expect(world.ledgers[node].isKnown(user, World.shard(user)), "seed \(seed): \(user) on \(node)")
                }
            }
        }
    }
}
