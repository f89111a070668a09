import FanfareEngines
import FanfareModel

enum RoomChecks {
    private static let room = BrokerCluster.room
    private static let slot = BrokerCluster.slot

    static let all = [
        BrokerCheck("a new room begins with the given epoch at 0") { cluster in
            let room = try await cluster.open()
            try expectEqual(room.top, StreamPosition(offset: 0, epoch: "epoch"))
            let again = try await room.stored()
            try expectEqual(again, StoredRoom(top: room.top, bodies: [], firstOffset: 1))
        },
        BrokerCheck("offsets are contiguous, bodies come back byte for byte") { cluster in
            var room = try await cluster.open()
            let all = Bytes(0...255)
            let bodies: [Bytes] = [all, [], bytes("\r\n$3\r\nabc\r\n"), [0], bytes("žluťoučký 🐎")]
            let first = try await room.append(bodies.prefix(2).map { AppendEntry(body: $0) })
            let second = try await room.append(bodies.dropFirst(2).map { AppendEntry(body: $0) })
            try expectEqual((first + second).map(\.position.offset), [1, 2, 3, 4, 5])
            let stored = try await room.stored()
            try expectEqual(stored.bodies, bodies)
            try expectEqual(stored.firstOffset, 1)
            try expectEqual(stored.top, StreamPosition(offset: 5, epoch: "epoch"))
        },
        BrokerCheck("another position is a mismatch, and nothing is appended") { cluster in
            var room = try await cluster.open()
            try await room.append("a", "b")
            let wrong = [
                StreamPosition(offset: 1, epoch: "epoch"), StreamPosition(offset: 3, epoch: "epoch"),
                StreamPosition(offset: 2, epoch: "another"),
            ]
            for position in wrong {
                let append = RoomAppend(
                    room: Self.room, expected: position,
                    entries: [AppendEntry(body: [1], idempotencyKey: "unused")], retention: Retention())
                let outcomes = try await cluster.first.broker.append([append], slot: Self.slot, fence: room.fence)
                try expectEqual(outcomes, [.mismatch(room.top)])
            }
            try expectEqual(try await room.stored().bodies, [bytes("a"), bytes("b")])
            let appended = try await room.append([AppendEntry(body: [2], idempotencyKey: "unused")])
            try expectEqual(appended.map(\.isDuplicate), [false])
        },
        BrokerCheck("rooms of a batch fare apart", nodes: 2) { cluster in
            var room = try await cluster.open()
            let others = rooms(inSlotOf: Self.room, count: 2)
            _ = try await cluster.first.broker.open(
                others[0], fence: room.fence, newEpoch: "other", retention: Retention())
            try await room.append("a")
            func append(_ name: String, _ epoch: String, _ offset: UInt64, key: String? = nil) -> RoomAppend {
                RoomAppend(
                    room: name, expected: StreamPosition(offset: offset, epoch: epoch),
                    entries: [AppendEntry(body: bytes(name), idempotencyKey: key)], retention: Retention())
            }
            let outcomes = try await cluster.first.broker.append(
                [
                    append(others[1], "absent", 0, key: "k0"), append(Self.room, "epoch", 0, key: "k1"),
                    append(others[0], "other", 0, key: "k2"),
                ], slot: Self.slot, fence: room.fence)
            try expectEqual(
                outcomes,
                [
                    .mismatch(nil), .mismatch(StreamPosition(offset: 1, epoch: "epoch")),
                    .appended([
                        AppendedEntry(position: StreamPosition(offset: 1, epoch: "other"), isDuplicate: false)
                    ]),
                ])
        },
        BrokerCheck("a room may come twice in a batch") { cluster in
            let room = try await cluster.open()
            let appends = [0, 1].map { offset in
                RoomAppend(
                    room: Self.room, expected: StreamPosition(offset: offset, epoch: "epoch"),
                    entries: [AppendEntry(body: [UInt8(offset)])], retention: Retention())
            }
            let outcomes = try await cluster.first.broker.append(appends, slot: Self.slot, fence: room.fence)
            let expected = [1, 2].map { offset in
                RoomAppendOutcome.appended([
                    AppendedEntry(position: StreamPosition(offset: offset, epoch: "epoch"), isDuplicate: false)
                ])
            }
            try expectEqual(outcomes, expected)
            try expectEqual(try await room.stored().bodies, [[0], [1]])
        },
        BrokerCheck("rooms of another slot are refused") { cluster in
            let room = try await cluster.open()
            let other = (0...).lazy.map { "room:\($0)" }.first { Slot(of: $0) != Self.slot } ?? ""
            try await expectError(.rejected) {
                let append = RoomAppend(
                    room: other, expected: room.top, entries: [AppendEntry(body: [1])], retention: Retention())
                _ = try await cluster.first.broker.append([append], slot: Self.slot, fence: room.fence)
            }
        },
        BrokerCheck("an idempotency key gives the first position and uses no offset", nodes: 2) { cluster in
            var room = try await cluster.open()
            try await cluster.nodes[1].broker.subscribe(room: Self.room)
            let first = try await room.append([AppendEntry(body: bytes("a"), idempotencyKey: "k")])
            let second = try await room.append([
                AppendEntry(body: bytes("b")), AppendEntry(body: bytes("a again"), idempotencyKey: "k"),
                AppendEntry(body: bytes("c"), idempotencyKey: "l"),
                AppendEntry(body: bytes("c again"), idempotencyKey: "l"), AppendEntry(body: bytes("d")),
            ])
            try expectEqual(second.map(\.position.offset), [2, 1, 3, 3, 4])
            try expectEqual(second.map(\.isDuplicate), [false, true, false, true, false])
            try expectEqual(second[1].position, first[0].position)
            let third = try await room.append([AppendEntry(body: bytes("a"), idempotencyKey: "k")])
            try expectEqual(third, [AppendedEntry(position: first[0].position, isDuplicate: true)])
            try expectEqual(try await room.stored().bodies, ["a", "b", "c", "d"].map(bytes))
            let receiver = cluster.nodes[1].receiver
            try await eventually("all arrive") { receiver.publications(Self.room).count >= 4 }
            try expectEqual(receiver.publications(Self.room).map(\.position.offset), [1, 2, 3, 4])
            try expectEqual(receiver.batches(Self.room).count, 2)
        },
        BrokerCheck("idempotency keys are of their room") { cluster in
            var room = try await cluster.open()
            let other = rooms(inSlotOf: Self.room, count: 1)[0]
            let opened = try await cluster.first.broker.open(
                other, fence: room.fence, newEpoch: "other", retention: Retention())
            try await room.append([AppendEntry(body: [1], idempotencyKey: "k")])
            let append = RoomAppend(
                room: other, expected: opened.top, entries: [AppendEntry(body: [2], idempotencyKey: "k")],
                retention: Retention())
            let outcomes = try await cluster.first.broker.append([append], slot: Self.slot, fence: room.fence)
            guard case .appended(let entries) = outcomes.first else {
                throw BrokerCheckFailure(description: "not appended: \(outcomes)")
            }
            try expectEqual(entries.map(\.isDuplicate), [false])
        },
        BrokerCheck("where a key has to be known, a known one passes and a new one is refused by itself", nodes: 2) {
            cluster in
            var room = try await cluster.open()
            try await cluster.nodes[1].broker.subscribe(room: Self.room)
            func known(_ body: String, _ key: String) -> AppendEntry {
                AppendEntry(body: bytes(body), idempotencyKey: key, requiresKnownKey: true)
            }
            try await room.append([AppendEntry(body: bytes("a"), idempotencyKey: "k")])
            let entries = try await room.append([
                known("a again", "k"), known("new", "l"), AppendEntry(body: bytes("b"), idempotencyKey: "m"),
                known("b again", "m"), known("new too", "l"), AppendEntry(body: bytes("c")),
            ])
            try expectEqual(
                entries.map(\.outcome), [.duplicate, .unknownKey, .appended, .duplicate, .unknownKey, .appended])
            try expectEqual(entries.map(\.position.offset), [1, 1, 2, 2, 2, 3])
            // Refused is not remembered, and a batch of such alone publishes nothing.
            let refused = try await room.append([known("new", "l")])
            try expectEqual(refused, [AppendedEntry(position: room.top, outcome: .unknownKey)])
            let admitted = try await room.append([AppendEntry(body: bytes("d"), idempotencyKey: "l")])
            try expectEqual(admitted.map(\.outcome), [.appended])
            try expectEqual(try await room.stored().bodies, ["a", "b", "c", "d"].map(bytes))
            let receiver = cluster.nodes[1].receiver
            try await eventually("all arrive") { receiver.publications(Self.room).count >= 4 }
            try expectEqual(receiver.publications(Self.room).map(\.body), ["a", "b", "c", "d"].map(bytes))
        },
        BrokerCheck("a version that is not higher is not appended") { cluster in
            var room = try await cluster.open()
            let steps: [(version: UInt64, epoch: String, isAppended: Bool)] = [
                (5, "", true), (5, "", false), (4, "", false), (6, "", true), (10, "", true), (9, "", false),
                // Numbers that a double cannot tell apart.
                (9_007_199_254_740_993, "", true), (9_007_199_254_740_992, "", false),
                (9_007_199_254_740_994, "", true), (.max, "", true),
                // Another epoch begins anew; none means the room's own.
                (1, "e", true), (1, "e", false), (1, "", false), (2, "", true), (1, "e", true), (1, "f", true),
            ]
            for (index, step) in steps.enumerated() {
                let before = room.top
                let entry = AppendEntry(
                    body: bytes("\(index)"), version: PublicationVersion(number: step.version, epoch: step.epoch))
                let appended = try await room.append([entry])
                try expectEqual(appended.map(\.outcome), [step.isAppended ? .appended : .outdated])
                let offset = before.offset + (step.isAppended ? 1 : 0)
                try expectEqual(appended[0].position, StreamPosition(offset: offset, epoch: "epoch"))
            }
            // Within one batch; what has no version neither asks nor counts.
            let entries = try await room.append([
                AppendEntry(body: bytes("x"), idempotencyKey: "x", version: PublicationVersion(number: 7)),
                AppendEntry(body: bytes("y")),
                AppendEntry(body: bytes("z"), idempotencyKey: "z", version: PublicationVersion(number: 7)),
                AppendEntry(body: bytes("x"), idempotencyKey: "x", version: PublicationVersion(number: 7)),
            ])
            try expectEqual(entries.map(\.outcome), [.appended, .appended, .outdated, .duplicate])
            // A key of what was not appended is not remembered.
            let later = try await room.append([
                AppendEntry(body: bytes("z"), idempotencyKey: "z", version: PublicationVersion(number: 8))
            ])
            try expectEqual(later.map(\.outcome), [.appended])
            let stored = try await room.stored()
            try expectEqual(stored.top, room.top)
            try expectEqual(UInt64(stored.bodies.count), room.top.offset)
        },
        BrokerCheck("an idempotency key is forgotten after its window") { cluster in
            var room = try await cluster.open(Retention(idempotencyWindow: .milliseconds(50)))
            try await room.append([AppendEntry(body: [1], idempotencyKey: "k")])
            try await eventually("the key is forgotten") {
                try await !room.append([AppendEntry(body: [1], idempotencyKey: "k")])[0].isDuplicate
            }
            try expectEqual(room.top.offset, 2)
        },
        BrokerCheck("reading gives what is asked for") { cluster in
            let broker = cluster.first.broker
            try expectEqual(try await broker.read(Self.room, since: 0, limit: 10), nil)
            var room = try await cluster.open(Retention(count: 3))
            try await room.append("1", "2", "3", "4", "5")
            func read(_ since: UInt64?, _ limit: Int) async throws -> String {
                guard let stored = try await broker.read(Self.room, since: since, limit: limit) else { return "nil" }
                try expectEqual(stored.top, room.top)
                return "\(stored.firstOffset):" + stored.bodies.map { String(decoding: $0, as: UTF8.self) }.joined()
            }
            try expectEqual(try await read(nil, 10), "6:")
            try expectEqual(try await read(0, 10), "3:345")
            try expectEqual(try await read(2, 10), "3:345")
            try expectEqual(try await read(3, 10), "4:45")
            try expectEqual(try await read(2, 2), "3:34")
            try expectEqual(try await read(4, 10), "5:5")
            try expectEqual(try await read(5, 10), "6:")
            try expectEqual(try await read(99, 10), "6:")
            try expectEqual(try await read(UInt64.max, 10), "6:")
            try expectEqual(try await read(0, 0), "6:")
        },
        BrokerCheck("restoring puts back what was found missing") { cluster in
            let fence = try await cluster.claim()
            let broker = cluster.first.broker
            let kept = StoredRoom(
                top: StreamPosition(offset: 7, epoch: "e"), bodies: ["5", "6", "7"].map(bytes), firstOffset: 5)
            func restore(_ room: StoredRoom, from found: StreamPosition?) async throws -> Bool {
                try await broker.restore(Self.room, to: room, from: found, fence: fence, retention: Retention())
            }
            try expectEqual(try await restore(kept, from: StreamPosition(offset: 1, epoch: "e")), false)
            try expectEqual(try await restore(kept, from: nil), true)
            try expectEqual(try await restore(kept, from: nil), false)
            try expectEqual(
                try await broker.open(Self.room, fence: fence, newEpoch: "unused", retention: Retention()), kept)
            var room = OpenRoom(broker: broker, fence: fence, top: kept.top, retention: Retention())
            try await room.append("8")
            let other = StoredRoom(top: StreamPosition(offset: 9, epoch: "f"), bodies: [], firstOffset: 10)
            try expectEqual(try await restore(other, from: room.top), true)
            try expectEqual(try await room.stored(), other)
            try await expectError(.rejected) {
                _ = try await restore(
                    StoredRoom(top: other.top, bodies: [[1]], firstOffset: 8), from: other.top)
            }
        },
        BrokerCheck("restoring keeps to the retention") { cluster in
            let fence = try await cluster.claim()
            let kept = StoredRoom(
                top: StreamPosition(offset: 5, epoch: "e"), bodies: ["11", "22", "33", "44", "55"].map(bytes),
                firstOffset: 1)
            let retention = Retention(count: 4, bytes: 7)
            _ = try await cluster.first.broker.restore(
                Self.room, to: kept, from: nil, fence: fence, retention: retention)
            let stored = try await cluster.first.broker.open(
                Self.room, fence: fence, newEpoch: "unused", retention: retention)
            try expectEqual(stored.bodies, ["33", "44", "55"].map(bytes))
            try expectEqual(stored.firstOffset, 3)
        },
        BrokerCheck("removing the history keeps the position") { cluster in
            var room = try await cluster.open()
            try await room.append("a", "b")
            try await cluster.first.broker.removeHistory(Self.room, fence: room.fence)
            try expectEqual(try await room.stored(), StoredRoom(top: room.top, bodies: [], firstOffset: 3))
            try await room.append("c")
            let stored = try await room.stored()
            try expectEqual(stored.bodies, [bytes("c")])
            try expectEqual(stored.firstOffset, 3)
            try await cluster.first.broker.removeHistory(
                rooms(inSlotOf: Self.room, count: 1)[0], fence: room.fence)
        },
    ]
}
