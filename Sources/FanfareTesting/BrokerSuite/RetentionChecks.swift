import FanfareEngines
import FanfareModel

enum RetentionChecks {
    static let all = [
        BrokerCheck("a room that nobody wrote to is forgotten soon, one that was written to is not") { cluster in
            let retention = Retention(emptyTime: .milliseconds(50))
            let (written, empty) = (BrokerCluster.room, rooms(inSlotOf: BrokerCluster.room, count: 1)[0])
            // Opened with a longer one: the first append may come late on a busy machine.
            var room = try await cluster.open()
            room.retention = retention
            try await room.append("a")
            _ = try await cluster.first.broker.open(empty, fence: room.fence, newEpoch: "e", retention: retention)
            try await eventually("the empty room is forgotten") {
                try await cluster.first.broker.read(empty, since: nil, limit: 0) == nil
            }
            try expect(
                try await cluster.first.broker.read(written, since: nil, limit: 0) != nil, "the other one is forgotten")
        },
        BrokerCheck("an empty room that is opened again, or put back, is kept for as long again, and no longer") {
            cluster in
            let (soon, late) = (Retention(emptyTime: .milliseconds(50)), Retention(emptyTime: .seconds(60)))
            let names = rooms(inSlotOf: BrokerCluster.room, count: 2)
            let room = try await cluster.open(late)
            let broker = cluster.first.broker
            for name in names { _ = try await broker.open(name, fence: room.fence, newEpoch: "e", retention: soon) }
            let again = try await broker.open(names[0], fence: room.fence, newEpoch: "f", retention: late)
            let top = StreamPosition(offset: 0, epoch: "g")
            let empty = StoredRoom(top: top, bodies: [], firstOffset: 1)
            _ = try await broker.restore(
                BrokerCluster.room, to: empty, from: room.top, fence: room.fence, retention: soon)
            for name in [names[1], BrokerCluster.room] {
                try await eventually("\(name) is forgotten") {
                    try await broker.read(name, since: nil, limit: 0) == nil
                }
            }
            try expectEqual(try await broker.read(names[0], since: nil, limit: 0)?.top, again.top)
        },
        BrokerCheck("the count is kept") { cluster in
            var room = try await cluster.open(Retention(count: 3))
            for number in 1...10 { try await room.append("\(number)") }
            let stored = try await room.stored()
            try expectEqual(stored.bodies, ["8", "9", "10"].map(bytes))
            try expectEqual(stored.firstOffset, 8)
            try await room.append("11", "12", "13", "14", "15")
            try expectEqual(try await room.stored().bodies, ["13", "14", "15"].map(bytes))
            room.retention.count = 1
            try await room.append("16")
            try expectEqual(try await room.stored().bodies, [bytes("16")])
        },
        BrokerCheck("a count of 0 keeps nothing but the position") { cluster in
            var room = try await cluster.open(Retention(count: 0))
            try await room.append("a", "b")
            try expectEqual(try await room.stored(), StoredRoom(top: room.top, bodies: [], firstOffset: 3))
            room.retention.count = 2
            try await room.append("c")
            try expectEqual(try await room.stored().bodies, [bytes("c")])
        },
        BrokerCheck("the bytes are kept") { cluster in
            var room = try await cluster.open(Retention(count: 100, bytes: 1000))
            for number in 0..<50 {
                try await room.append([AppendEntry(body: Bytes(repeating: UInt8(number), count: 100 + number))])
                let stored = try await room.stored()
                try expect(stored.bodies.reduce(0) { $0 + $1.count } <= 1000, "more than 1000 bytes are kept")
                try expectEqual(stored.bodies.last?.first, UInt8(number))
                try expectEqual(stored.firstOffset + UInt64(stored.bodies.count), UInt64(number) + 2)
            }
            try expectEqual(try await room.stored().bodies.count, 6)
            try await room.append([AppendEntry(body: Bytes(repeating: 0, count: 1001))])
            try expectEqual(try await room.stored().bodies, [])
            try await room.append("small")
            try expectEqual(try await room.stored().bodies, [bytes("small")])
        },
        BrokerCheck("the history ends its time after the last publication, the position stays") { cluster in
            var room = try await cluster.open(Retention(time: .milliseconds(100)))
            try await room.append("a", "b")
            try await eventually("the history expires") { try await room.stored().bodies.isEmpty }
            try expectEqual(try await room.stored().top.offset, 2)
            try expectEqual(
                try await cluster.first.broker.read(BrokerCluster.room, since: 0, limit: 5),
                StoredRoom(top: room.top, bodies: [], firstOffset: 3))
            room.retention = Retention(count: 10, bytes: 4)
            try await room.append("cc")
            try await room.append("dd")
            try expectEqual(try await room.stored().bodies, ["cc", "dd"].map(bytes))
        },
        BrokerCheck("the position ends its time after the last publication") { cluster in
            var room = try await cluster.open()
            room.retention = Retention(time: .milliseconds(10), positionTime: .milliseconds(60))
            try await room.append("a")
            try await eventually("the position expires") {
                try await cluster.first.broker.read(BrokerCluster.room, since: nil, limit: 0) == nil
            }
            let append = RoomAppend(
                room: BrokerCluster.room, expected: room.top, entries: [AppendEntry(body: [1])],
                retention: room.retention)
            let outcomes = try await cluster.first.broker.append(
                [append], slot: BrokerCluster.slot, fence: room.fence)
            try expectEqual(outcomes, [.mismatch(nil)])
            let stored = try await cluster.first.broker.open(
                BrokerCluster.room, fence: room.fence, newEpoch: "next", retention: Retention())
            try expectEqual(stored.top, StreamPosition(offset: 0, epoch: "next"))
        },
    ]
}
