import FanfareEngines
import FanfareModel
import FanfareTesting
import Testing

/// The same calls, drawn by a seed, on both brokers: they answer alike.
@Suite("Both brokers answer alike")
struct DifferentialTests {
    private enum Call: CustomStringConvertible {
        case claim(node: Int, view: UInt64)
        case open(room: Int, fence: Int)
        /// Keys below 6 are idempotency keys, below 12 those that have to be known, others stand for a version.
        case append(rooms: [Int], keys: [[Int?]], stale: Bool, retention: Retention, fence: Int)
        case restore(room: Int, offset: UInt64, count: Int, guess: Bool, fence: Int)
        case read(room: Int, since: UInt64?, limit: Int)
        case remove(room: Int, fence: Int)

        var description: String {
            switch self {
            case .claim(let node, let view): "claim by \(node) under \(view)"
            case .open(let room, let fence): "open \(room) with \(fence)"
            case .append(let rooms, let keys, let stale, let retention, let fence):
                "append \(rooms) \(keys) stale: \(stale) \(retention.count)/\(retention.bytes) with \(fence)"
            case .restore(let room, let offset, let count, let guess, let fence):
                "restore \(room) to \(offset) with \(count) guess: \(guess) with \(fence)"
            case .read(let room, let since, let limit): "read \(room) since \(since as UInt64?) limit \(limit)"
            case .remove(let room, let fence): "remove \(room) with \(fence)"
            }
        }
    }

    /// One broker with what its callers remember. Both sides remember the same as long as they answer alike.
    private struct Side {
        let broker: any Broker
        let rooms: [String]
        let slot: Slot
        var fences: [Fence] = []
        var tops: [Int: StreamPosition] = [:]
        var appended = 0

        mutating func run(_ call: Call) async -> String {
            do { return try await self.perform(call) } catch {
                return (error as? EngineError).map { "\($0.code)" } ?? "\(error)"
            }
        }

        private func fence(_ index: Int) -> Fence {
            self.fences.isEmpty ? Fence(generation: "g", number: 77) : self.fences[index % self.fences.count]
        }

        private mutating func perform(_ call: Call) async throws -> String {
            switch call {
            case .claim(let node, let view):
                let fence = try await self.broker.claim(
                    self.slot, view: ViewNumber(generation: "g", number: view), node: NodeID("\(node)"),
                    incarnation: "i")
                if !self.fences.contains(fence) { self.fences.insert(fence, at: 0) }
                return "\(fence)"
            case .open(let room, let fence):
                let stored = try await self.broker.open(
                    self.rooms[room], fence: self.fence(fence), newEpoch: "e\(self.appended)", retention: Retention())
                self.tops[room] = stored.top
                return "\(stored)"
            case .append(let rooms, let keys, let stale, let retention, let fence):
                return try await self.append(rooms, keys, stale, retention, self.fence(fence))
            case .restore(let room, let offset, let count, let guess, let fence):
                let bodies = (0..<count).map { Bytes(repeating: UInt8($0), count: $0) }
                let top = StreamPosition(offset: offset, epoch: "r\(offset % 3)")
                let stored = StoredRoom(
                    top: top, bodies: bodies, firstOffset: offset + 1 - UInt64(min(count, Int(offset))))
                let done = try await self.broker.restore(
                    self.rooms[room], to: stored, from: guess ? self.tops[room] : nil, fence: self.fence(fence),
                    retention: Retention(count: 4, bytes: 8))
                if done { self.tops[room] = top }
                return "\(done)"
            case .read(let room, let since, let limit):
                return "\(try await self.broker.read(self.rooms[room], since: since, limit: limit) as StoredRoom?)"
            case .remove(let room, let fence):
                try await self.broker.removeHistory(self.rooms[room], fence: self.fence(fence))
                return "removed"
            }
        }

        private mutating func append(
            _ rooms: [Int], _ keys: [[Int?]], _ stale: Bool, _ retention: Retention, _ fence: Fence
        ) async throws -> String {
            var batch: [RoomAppend] = []
            for (index, room) in rooms.enumerated() {
                var expected = self.tops[room] ?? StreamPosition(offset: 0, epoch: "none")
                if stale { expected.offset += 1 }
                let entries = keys[index].map { key in
                    self.appended += 1
                    var entry = AppendEntry(body: Bytes("\(self.appended)".utf8))
                    switch key {
                    case nil: break
                    case let key? where key < 6: entry.idempotencyKey = "key:\(key)"
                    case let key? where key < 12:
                        entry.idempotencyKey = "key:\(key - 6)"
                        entry.requiresKnownKey = true
                    case let key?:
                        entry.version = PublicationVersion(
                            number: UInt64(1 + self.appended % 9), epoch: ["", "e", "f"][key % 3])
                    }
                    return entry
                }
                batch.append(
                    RoomAppend(room: self.rooms[room], expected: expected, entries: entries, retention: retention))
            }
            let outcomes = try await self.broker.append(batch, slot: self.slot, fence: fence)
            for (index, room) in rooms.enumerated() {
                if case .appended(let entries) = outcomes[index],
                    let last = entries.last(where: \.isAppended)
                {
                    self.tops[room] = last.position
                }
            }
            return "\(outcomes)"
        }
    }

    private static func draw(_ generator: inout SeededGenerator) -> Call {
        func below(_ bound: Int, _ generator: inout SeededGenerator) -> Int {
            .random(in: 0..<bound, using: &generator)
        }
        let room = below(3, &generator)
        // Mostly the newest fence.
        let fence = below(8, &generator) == 0 ? 1 : 0
        switch below(20, &generator) {
        case 0: return .claim(node: below(3, &generator), view: UInt64(below(30, &generator)))
        case 1...4: return .open(room: room, fence: fence)
        case 5...13:
            let rooms = (0..<(1 + below(3, &generator))).map { _ in below(3, &generator) }
            let keys = rooms.map { _ in
                (0..<below(5, &generator)).map { _ -> Int? in
                    below(2, &generator) == 0 ? below(15, &generator) : nil
                }
            }
            let retention = Retention(count: below(6, &generator), bytes: below(12, &generator))
            return .append(
                rooms: rooms, keys: keys, stale: below(10, &generator) == 0, retention: retention, fence: fence)
        case 14: return .remove(room: room, fence: fence)
        case 15, 16:
            let count = below(6, &generator)
            return .restore(
                room: room, offset: UInt64(count + below(9, &generator)), count: count,
                guess: below(4, &generator) != 0, fence: fence)
        default:
            let since = below(4, &generator) == 0 ? nil : UInt64(below(20, &generator))
            return .read(room: room, since: since, limit: below(6, &generator))
        }
    }

    @Test("calls drawn by a seed", arguments: 0..<6)
    func alike(run: Int) async throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        let first = "room:1"
        let slot = Slot(of: first)
        let others = (0...).lazy.map { "room:x:\($0)" }.filter { Slot(of: $0) == slot }
        let rooms = [first] + Array(others.prefix(2))
        let clusters = [memoryCluster(nodes: 1), try await redisCluster(Shared.redis(), nodes: 1)]
        var sides: [Side] = []
        for cluster in clusters {
            let node = cluster.nodes[0]
            _ = try await node.broker.heartbeat(node.member(), lease: .seconds(600), newGeneration: "g")
            for room in rooms { try await node.broker.subscribe(room: room) }
            sides.append(Side(broker: node.broker, rooms: rooms, slot: slot))
        }
        var trace: [String] = []
        for _ in 0..<400 {
            let call = Self.draw(&generator)
            let (memory, redis) = (await sides[0].run(call), await sides[1].run(call))
            trace.append("\(call) → \(memory)")
            guard memory == redis else {
                Issue.record("seed \(seed): \(trace.suffix(6).joined(separator: "\n")) but on Redis \(redis)")
                break
            }
        }
        for cluster in clusters { try await cluster.nodes[0].broker.sendToAll([0]) }
        for cluster in clusters {
            try await eventually("the barrier arrives") { !cluster.nodes[0].receiver.messages.isEmpty }
        }
        for room in rooms {
            let (memory, redis) = (
                clusters[0].nodes[0].receiver.batches(room), clusters[1].nodes[0].receiver.batches(room)
            )
            #expect(memory == redis, "seed \(seed), run \(run)")
        }
        for cluster in clusters { await cluster.stop() }
    }
}
