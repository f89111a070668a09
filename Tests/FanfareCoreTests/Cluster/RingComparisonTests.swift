import FanfareModel
import Foundation
import Testing

@testable import FanfareCore

/// `Ring` beside what it stands in for, a ring of virtual nodes that looks at as many hashes: 1,024 for each node, and the
/// usual 128 for scale. Both with the same bound on the load. Prints the figures of docs/performance.md.
@Suite struct RingComparisonTests {
    /// A few in every run; the figures of docs/performance.md are of 40.
    private static let clusters = ProcessInfo.processInfo.environment["FANFARE_RING_CLUSTERS"].flatMap(Int.init) ?? 5
    private static let sizes = [3, 5, 10, 20, 50]

    private struct Figures {
        /// The fullest node's slots over the mean, averaged over the clusters, without and with the bound.
        var unboundedPeak = 0.0
        var peak = 0.0
        /// The emptiest node's slots over the mean.
        var least = 0.0
        /// Slots that move when the last node joins, over the 1/n that have to.
        var moved = 0.0
        /// Of all slots, the share that moves between nodes that were there before.
        var between = 0.0

        mutating func add(_ assignment: [Int], unbounded: [Int], before: [Int], count: Int) {
            let clusters = Double(RingComparisonTests.clusters)
            let mean = Double(Slot.count) / Double(count)
            let loads = Self.loads(assignment, count)
            self.unboundedPeak += Double(Self.loads(unbounded, count).max() ?? 0) / mean / clusters
            self.peak += Double(loads.max() ?? 0) / mean / clusters
            self.least += Double(loads.min() ?? 0) / mean / clusters
            let moves = zip(before, assignment).filter { $0 != $1 }
            self.moved += Double(moves.count) / mean / clusters
            self.between += Double(moves.count(where: { $0.1 != count - 1 })) / Double(Slot.count) / clusters
        }

        private static func loads(_ assignment: [Int], _ count: Int) -> [Int] {
            var loads = Array(repeating: 0, count: count)
            for node in assignment { loads[node] += 1 }
            return loads
        }

        func line(_ count: Int, _ name: String) -> String {
            func percent(_ share: Double) -> String { "\((share * 10_000).rounded() / 100) %" }
            func ratio(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }
            return "| \(count) | \(name) | \(ratio(self.unboundedPeak)) | \(ratio(self.peak)) | \(ratio(self.least)) | "
                + "\(ratio(self.moved)) | \(percent(self.between)) |"
        }
    }

    @Test func spreadsMoreEvenlyThanVirtualNodesAtTheSameCost() {
        print("| nodes | | fullest, no bound | fullest | emptiest | moved by a join | between others |")
        for count in Self.sizes {
            var rendezvous = Figures()
            var virtual = [1024: Figures(), 128: Figures()]
            for seed in 0..<UInt64(Self.clusters) {
                var generator = SeededGenerator(seed: seed << 8 | UInt64(count))
                let prefix = String(UInt32.random(in: 0...(.max), using: &generator), radix: 16)
                let members = (0..<count).map {
                    Member(node: NodeID("\(prefix)-\($0)"), incarnation: "i", address: "", weight: 1, state: .active)
                }
                let fewer = Array(members.dropLast())
                rendezvous.add(
                    Ring.assign(to: members),
                    unbounded: Ring.assign(to: members, bounds: Array(repeating: Slot.count, count: count)),
                    before: Ring.assign(to: fewer), count: count)
                for points in virtual.keys {
                    let ring = VirtualNodeRing(members, points: points)
                    virtual[points]?.add(
                        ring.assign(isBounded: true), unbounded: ring.assign(isBounded: false),
                        before: VirtualNodeRing(fewer, points: points).assign(isBounded: true), count: count)
                }
            }
            print(rendezvous.line(count, "rendezvous"))
            for points in virtual.keys.sorted(by: >) {
                guard let figures = virtual[points] else { continue }
                print(figures.line(count, "\(points) virtual nodes each"))
                #expect(rendezvous.unboundedPeak <= figures.unboundedPeak, "\(count) nodes")
                #expect(rendezvous.least >= figures.least, "\(count) nodes")
                #expect(rendezvous.between <= figures.between + 0.001, "\(count) nodes")
            }
        }
    }
}

/// Consistent hashing with virtual nodes and bounded load: a slot belongs to the next point on the circle whose node has
/// room.
private struct VirtualNodeRing {
    private let circle: [(hash: UInt64, node: Int)]
    private let bounds: [Int]

    init(_ members: [Member], points: Int) {
        var circle: [(hash: UInt64, node: Int)] = []
        for (index, member) in members.enumerated() {
            var generator = SeededGenerator(seed: StableHash.hash(member.node.rawValue))
            for _ in 0..<points { circle.append((generator.next(), index)) }
        }
        self.circle = circle.sorted { $0.hash < $1.hash }
        self.bounds = members.map { Ring.bound(of: $0, among: members) }
    }

    func assign(isBounded: Bool) -> [Int] {
        var owned = Array(repeating: 0, count: self.bounds.count)
        var generator = SeededGenerator(seed: 1)
        return (0..<Slot.count).map { _ in
            let hash = generator.next()
            var (low, high) = (0, self.circle.count)
            while low < high {
                let middle = (low + high) / 2
                if self.circle[middle].hash < hash { low = middle + 1 } else { high = middle }
            }
            // The bounds add up to more than all slots, so that the search ends.
            while true {
                let node = self.circle[low % self.circle.count].node
                if !isBounded || owned[node] < self.bounds[node] {
                    owned[node] += 1
                    return node
                }
                low += 1
            }
        }
    }
}
