import FanfareEngines
import FanfareModel

enum MessageChecks {
    private static let room = BrokerCluster.room

    static let all = [
        BrokerCheck("subscribers get all batches in order and without a gap", nodes: 3) { cluster in
            var room = try await cluster.open()
            for node in cluster.nodes { try await node.broker.subscribe(room: Self.room) }
            var next = 1
            for size in 1...20 {
                try await room.append((next..<next + size).map { AppendEntry(body: bytes("\($0)")) })
                next += size
            }
            for node in cluster.nodes {
                try await eventually("all arrive at \(node.id)") {
                    node.receiver.publications(Self.room).count >= next - 1
                }
                let publications = node.receiver.publications(Self.room)
                try expectEqual(publications.map(\.position.offset), (1..<next).map { UInt64($0) })
                try expectEqual(publications.map(\.body), (1..<next).map { bytes("\($0)") })
                try expect(publications.allSatisfy { $0.position.epoch == "epoch" }, "another epoch")
                try expectEqual(node.receiver.batches(Self.room).count, 20)
            }
        },
        BrokerCheck("only subscribers get publications", nodes: 2) { cluster in
            let (one, two) = (cluster.nodes[0], cluster.nodes[1])
            var room = try await cluster.open()
            try await one.broker.subscribe(room: Self.room)
            try await two.broker.subscribe(room: Self.room)
            try await room.append("both")
            try await eventually("it arrives") { two.receiver.publications(Self.room).count == 1 }
            two.broker.unsubscribe(room: Self.room)
            try await two.broker.subscribe(room: "room:barrier")
            try await room.append("one")
            try await one.broker.sendToAll(bytes("barrier"))
            try await eventually("the barrier arrives") { two.receiver.messages.count == 1 }
            try expectEqual(two.receiver.publications(Self.room).map(\.body), [bytes("both")])
            try await two.broker.subscribe(room: Self.room)
            try await room.append("again")
            try await eventually("it arrives") { two.receiver.publications(Self.room).count == 2 }
            try await eventually("all arrive") { one.receiver.publications(Self.room).count == 3 }
        },
        BrokerCheck("subscribing twice delivers once") { cluster in
            var room = try await cluster.open()
            let broker = cluster.first.broker
            async let first: Void = broker.subscribe(room: Self.room)
            async let second: Void = broker.subscribe(room: Self.room)
            _ = try await (first, second)
            try await broker.subscribe(room: Self.room)
            try await room.append("once")
            try await broker.sendToAll(bytes("barrier"))
            try await eventually("the barrier arrives") { cluster.first.receiver.messages.count == 1 }
            try expectEqual(cluster.first.receiver.publications(Self.room).count, 1)
        },
        BrokerCheck("subscribing and unsubscribing in a hurry ends as asked last") { cluster in
            var room = try await cluster.open()
            let broker = cluster.first.broker
            for _ in 0..<20 {
                async let subscribed: Void = broker.subscribe(room: Self.room)
                broker.unsubscribe(room: Self.room)
                try await subscribed
            }
            try await broker.subscribe(room: Self.room)
            try await room.append("seen")
            try await eventually("it arrives") { cluster.first.receiver.publications(Self.room).count == 1 }
        },
        BrokerCheck("many rooms are subscribed at once") { cluster in
            let broker = cluster.first.broker
            let names = (0..<600).map { "room:many-\($0)" }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for name in names { group.addTask { try await broker.subscribe(room: name) } }
                try await group.waitForAll()
            }
            for name in names {
                try await broker.broadcast(
                    PublishedBatch(epoch: "e", firstOffset: 1, bodies: [bytes(name)]), room: name)
            }
            let receiver = cluster.first.receiver
            try await eventually("all arrive") { receiver.events.count >= names.count }
            for name in names { try expectEqual(receiver.publications(name).map(\.body), [bytes(name)]) }
        },
        BrokerCheck("a broadcast reaches subscribers and is not kept", nodes: 2) { cluster in
            let (one, two) = (cluster.nodes[0], cluster.nodes[1])
            try await two.broker.subscribe(room: Self.room)
            let batch = PublishedBatch(
                epoch: "any", firstOffset: 1 << 60, bodies: [Bytes(0...255), [], [0, 13, 10]])
            try await one.broker.broadcast(batch, room: Self.room)
            try await eventually("it arrives") { two.receiver.batches(Self.room) == [batch] }
            try expectEqual(one.receiver.batches(Self.room), [])
            try expectEqual(try await one.broker.read(Self.room, since: 0, limit: 10), nil)
        },
        BrokerCheck("a message reaches its node alone", nodes: 3) { cluster in
            let message = Bytes(0...255)
            let reached = try await cluster.first.broker.send(message, to: cluster.nodes[1].id)
            try expect(reached, "the node listens, but the send says it does not")
            try await cluster.first.broker.sendToAll(bytes("barrier"))
            for node in cluster.nodes {
                try await eventually("the barrier arrives") { node.receiver.messages.last == bytes("barrier") }
            }
            try expectEqual(cluster.nodes[1].receiver.messages, [message, bytes("barrier")])
            try expectEqual(cluster.nodes[2].receiver.messages, [bytes("barrier")])
            let nobody = try await cluster.first.broker.send(message, to: NodeID("nobody"))
            try expect(!nobody, "nobody listens, but the send says so")
        },
        BrokerCheck("messages of one sender keep their order", nodes: 2) { cluster in
            let (one, two) = (cluster.nodes[0], cluster.nodes[1])
            for number in 0..<200 {
                if number.isMultiple(of: 3) {
                    try await one.broker.sendToAll(bytes("\(number)"))
                } else {
                    _ = try await one.broker.send(bytes("\(number)"), to: two.id)
                }
            }
            try await eventually("all arrive") { two.receiver.messages.count >= 200 }
            try expectEqual(two.receiver.messages, (0..<200).map { bytes("\($0)") })
        },
        BrokerCheck("big payloads pass", nodes: 2) { cluster in
            let (one, two) = (cluster.nodes[0], cluster.nodes[1])
            let big = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 7) }
            var room = try await cluster.open()
            try await two.broker.subscribe(room: Self.room)
            try await room.append([AppendEntry(body: big), AppendEntry(body: [1]), AppendEntry(body: big)])
            try await eventually("they arrive") { two.receiver.publications(Self.room).count == 3 }
            try expect(
                two.receiver.publications(Self.room).map(\.body) == [big, [1], big], "the bodies differ")
            try expect(try await room.stored().bodies == [big, [1], big], "the stored bodies differ")
            try expect(try await one.broker.send(big, to: two.id), "the node listens")
            try await eventually("it arrives") { two.receiver.messages == [big] }
        },
        BrokerCheck("the largest batch passes", nodes: 2) { cluster in
            var room = try await cluster.open(Retention(count: 5000))
            try await cluster.nodes[1].broker.subscribe(room: Self.room)
            let appended = try await room.append(
                (0..<4096).map { AppendEntry(body: bytes("\($0)"), idempotencyKey: "\($0 % 4000)") })
            try expectEqual(appended.count { $0.isDuplicate }, 96)
            try expectEqual(room.top.offset, 4000)
            let receiver = cluster.nodes[1].receiver
            try await eventually("all arrive") { receiver.publications(Self.room).count == 4000 }
        },
        BrokerCheck("health tells that links are up") { cluster in
            let health = cluster.first.broker.health
            try expect(health.commands && health.subscriptions, "\(health)")
            try expectEqual(health.breaker, "closed")
            try expectEqual(health.problem, nil)
        },
    ]
}
