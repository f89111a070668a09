import FanfareEngines
import FanfareModel

enum FenceChecks {
    private static func view(_ number: UInt64, _ generation: String = "generation") -> ViewNumber {
        ViewNumber(generation: generation, number: number)
    }

    private static func begin(_ cluster: BrokerCluster) async throws {
        _ = try await cluster.first.broker.heartbeat(
            cluster.first.member(), lease: .seconds(60), newGeneration: "generation")
    }

    static let all = [
        BrokerCheck("the higher view wins, the stale one is refused", nodes: 2) { cluster in
            try await begin(cluster)
            let (one, two) = (cluster.nodes[0], cluster.nodes[1])
            let slot = BrokerCluster.slot
            let old = try await one.broker.claim(slot, view: view(3), node: one.id, incarnation: "first")
            let new = try await two.broker.claim(slot, view: view(4), node: two.id, incarnation: "first")
            try expect(new.number > old.number, "\(new) is not above \(old)")
            try await expectError(.fenced) {
                _ = try await one.broker.claim(slot, view: view(3), node: one.id, incarnation: "first")
            }
            let newest = try await one.broker.claim(slot, view: view(5), node: one.id, incarnation: "first")
            try expect(newest.number > new.number, "\(newest) is not above \(new)")
        },
        BrokerCheck("the same owner keeps its fence, another incarnation gets a higher one") { cluster in
            try await begin(cluster)
            let node = cluster.first
            let slot = BrokerCluster.slot
            let first = try await node.broker.claim(slot, view: view(2), node: node.id, incarnation: "first")
            let again = try await node.broker.claim(slot, view: view(6), node: node.id, incarnation: "first")
            try expectEqual(again, first)
            try await expectError(.fenced) {
                _ = try await node.broker.claim(slot, view: view(5), node: node.id, incarnation: "second")
            }
            let second = try await node.broker.claim(slot, view: view(7), node: node.id, incarnation: "second")
            try expect(second.number > first.number, "\(second) is not above \(first)")
        },
        BrokerCheck("a view of another generation is refused") { cluster in
            let node = cluster.first
            try await expectError(.fenced) {
                _ = try await node.broker.claim(
                    BrokerCluster.slot, view: view(1), node: node.id, incarnation: "first")
            }
            try await begin(cluster)
            try await expectError(.fenced) {
                _ = try await node.broker.claim(
                    BrokerCluster.slot, view: view(9, "another"), node: node.id, incarnation: "first")
            }
        },
        BrokerCheck("a view older than the current one is refused", nodes: 2) { cluster in
            try await begin(cluster)
            let two = cluster.nodes[1]
            let current = try await two.broker.heartbeat(two.member(), lease: .seconds(60), newGeneration: "other")
            try expectEqual(current.number, view(2))
            try await expectError(.fenced) {
                _ = try await two.broker.claim(BrokerCluster.slot, view: view(1), node: two.id, incarnation: "first")
            }
            _ = try await two.broker.claim(BrokerCluster.slot, view: view(2), node: two.id, incarnation: "first")
        },
        BrokerCheck("slots are claimed apart") { cluster in
            try await begin(cluster)
            let node = cluster.first
            for slot in [Slot(index: 0), Slot(index: 1), Slot(index: 1023)] {
                _ = try await node.broker.claim(slot, view: view(1), node: node.id, incarnation: "first")
            }
        },
        BrokerCheck("an old fence writes nothing and publishes nothing", nodes: 2) { cluster in
            let (one, two) = (cluster.nodes[0], cluster.nodes[1])
            var room = try await cluster.open()
            try await two.broker.subscribe(room: BrokerCluster.room)
            try await room.append("kept")
            let new = try await two.broker.claim(
                BrokerCluster.slot, view: view(9), node: two.id, incarnation: "first")
            try await expectError(.fenced) { [room] in
                var room = room
                try await room.append("refused")
            }
            try await expectError(.fenced) { [room] in _ = try await room.stored() }
            try await expectError(.fenced) { [room] in
                try await one.broker.removeHistory(BrokerCluster.room, fence: room.fence)
            }
            try await expectError(.fenced) { [room] in
                _ = try await one.broker.restore(
                    BrokerCluster.room, to: StoredRoom(top: room.top, bodies: [], firstOffset: room.top.offset + 1),
                    from: room.top, fence: room.fence, retention: Retention())
            }
            let stored = try await two.broker.open(
                BrokerCluster.room, fence: new, newEpoch: "unused", retention: Retention())
            try expectEqual(stored.bodies, [bytes("kept")])
            try expectEqual(stored.top.offset, 1)
            var room2 = OpenRoom(broker: two.broker, fence: new, top: stored.top, retention: Retention())
            try await room2.append("after")
            try await eventually("both arrive") { two.receiver.publications(BrokerCluster.room).count >= 2 }
            try expectEqual(
                two.receiver.publications(BrokerCluster.room).map(\.body), [bytes("kept"), bytes("after")])
        },
        BrokerCheck("without a claim nothing is written") { cluster in
            let fence = Fence(generation: "generation", number: 1)
            try await expectError(.fenced) {
                _ = try await cluster.first.broker.open(
                    BrokerCluster.room, fence: fence, newEpoch: "e", retention: Retention())
            }
        },
    ]
}
