import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareTesting
import Testing

@testable import FanfareFabric

@Suite("Rooms at their owner") struct RoomTests {
    private static func stored(_ top: UInt64, _ epoch: String, rolledBack: Bool = false) -> StoredRoom {
        StoredRoom(
            top: StreamPosition(offset: top, epoch: epoch), bodies: (0..<top).map { [UInt8($0 + 1)] }, firstOffset: 1,
            mayHaveRolledBack: rolledBack)
    }

    /// Runs on the room's loop.
    private static func withRoom<Result: Sendable>(
        _ body: @escaping @Sendable (isolated Room) -> Result
    ) async -> Result? {
        await onOwnThread {
            let scheduler = SimulatedScheduler(seed: 1)
            let loop = scheduler.makeLoop(name: "room")
            let room = Room(name: "room:1", retention: Retention(), loop: loop)
            let result = Box<Result?>(nil)
            loop.execute { result.value = room.onThisLoop(body) }
            _ = scheduler.run(for: .seconds(1))
            return result.value
        }
    }

    private static func pending(_ body: UInt8, _ replies: Box<[String]>) -> Room.Pending {
        Room.Pending(entry: AppendEntry(body: [body])) { result in
            switch result {
            case .success(let entry): replies.value.append("\(body)@\(entry.position.offset)")
            case .failure(let refusal): replies.value.append("\(body) \(refusal)")
            }
        }
    }

    @Test func batches() async {
        let result = await Self.withRoom { room -> ([[Bytes]?], [String]) in
            let replies = Box<[String]>([])
            for body: UInt8 in 1...3 { room.enqueue(Self.pending(body, replies)) }
            var batches: [[Bytes]?] = [room.beginBatch(maximumCount: 2, maximumBytes: 100)?.entries.map(\.body)]
            _ = room.found(Self.stored(0, "e"), newEpoch: "n")
            batches.append(room.beginBatch(maximumCount: 2, maximumBytes: 100)?.entries.map(\.body))
            batches.append(room.beginBatch(maximumCount: 2, maximumBytes: 100)?.entries.map(\.body))
            _ = room.read(HistoryFilter(limit: 0)) { result in
                replies.value.append("read \((try? result.get().top.offset) ?? 99)")
            }
            _ = room.appended(
                (1...2).map { AppendedEntry(position: StreamPosition(offset: $0, epoch: "e"), isDuplicate: false) })
            batches.append(room.beginBatch(maximumCount: 2, maximumBytes: 0)?.entries.map(\.body))
            return (batches, replies.value)
        }
        #expect(result?.0 == [nil, [[1], [2]], nil, [[3]]])
        #expect(result?.1 == ["1@1", "2@2", "read 2"])
    }

    @Test("what was not appended goes first in the next batch") func requeue() async {
        let bodies = await Self.withRoom { room in
            let replies = Box<[String]>([])
            _ = room.found(Self.stored(0, "e"), newEpoch: "n")
            for body: UInt8 in 1...2 { room.enqueue(Self.pending(body, replies)) }
            _ = room.beginBatch(maximumCount: 9, maximumBytes: 100)
            room.enqueue(Self.pending(3, replies))
            room.requeue()
            let isDoubtful = room.needsOpening
            _ = room.found(Self.stored(0, "e"), newEpoch: "n")
            return (isDoubtful, room.beginBatch(maximumCount: 9, maximumBytes: 100)?.entries.map(\.body))
        }
        #expect(bodies?.0 == true)
        #expect(bodies?.1 == [[1], [2], [3]])
    }

    @Test func refusesAllOnce() async {
        let replies = await Self.withRoom { room in
            let replies = Box<[String]>([])
            _ = room.found(Self.stored(0, "e"), newEpoch: "n")
            room.enqueue(Self.pending(1, replies))
            _ = room.beginBatch(maximumCount: 9, maximumBytes: 100)
            room.enqueue(Self.pending(2, replies))
            _ = room.failAll(.moved)
            _ = room.failAll(.moved)
            return replies.value
        }
        #expect(replies == ["1 moved", "2 moved"])
    }

    enum Proof: Sendable { case nothing, doubted, unknownOutcome, unknownWithKey, unknownTwice, proven }

    private static func failUnknown(_ room: isolated Room, key: String? = nil) {
        room.enqueue(Room.Pending(entry: AppendEntry(body: [4], idempotencyKey: key)) { _ in })
        _ = room.beginBatch(maximumCount: 1, maximumBytes: 100)
        _ = room.failBatch(.unknownOutcome, outcomeUnknown: true)
    }

    /// What was in doubt is kept with its body, and only until it is known.
    @Test func whatWasInDoubtIsPutBack() async {
        let bodies = await Self.withRoom { room -> [[Bytes]] in
            _ = room.found(Self.stored(3, "e"), newEpoch: "n")
            Self.failUnknown(room)
            guard case .restore(let first) = room.found(Self.stored(3, "e", rolledBack: true), newEpoch: "n") else {
                return []
            }
            room.restored(first)
            room.enqueue(Self.pending(5, Box([])))
            _ = room.beginBatch(maximumCount: 1, maximumBytes: 100)
            _ = room.appended([AppendedEntry(position: StreamPosition(offset: 5, epoch: "e"), isDuplicate: false)])
            room.requeue()
            guard case .restore(let second) = room.found(Self.stored(3, "e", rolledBack: true), newEpoch: "n") else {
                return []
            }
            return [first.bodies, second.bodies]
        }
        #expect(bodies == [[[1], [2], [3], [4]], [[1], [2], [3], [4], [5]]])
    }

    /// The owner remembers 3@e.
    @Test(arguments: [
        (Proof.nothing, stored(2, "e"), "adopted 2@e"),
        (.nothing, stored(2, "e", rolledBack: true), "renew 2@n"),
        (.proven, stored(3, "e"), "adopted 3@e"),
        (.proven, stored(3, "e", rolledBack: true), "adopted 3@e"),
        (.proven, stored(2, "e", rolledBack: true), "restore 3@e"),
        (.proven, stored(0, "f"), "restore 3@e"),
        (.proven, stored(2, "d", rolledBack: true), "restore 3@e"),
        (.proven, stored(2, "f"), "adopted 2@f"),
        (.doubted, stored(5, "e"), "adopted 5@e"),
        (.doubted, stored(5, "e", rolledBack: true), "renew 5@n"),
        (.doubted, stored(2, "e"), "renew 3@n"),
        (.doubted, stored(0, "f"), "renew 3@f"),
        (.unknownOutcome, stored(4, "e"), "adopted 4@e"),
        // It was not done, and may yet be.
        (.unknownOutcome, stored(3, "e"), "adopted 3@e"),
        // It may have been seen before it was lost: it counts as done.
        (.unknownOutcome, stored(3, "e", rolledBack: true), "restore 4@e"),
        (.unknownOutcome, stored(2, "e", rolledBack: true), "restore 4@e"),
        (.unknownOutcome, stored(4, "e", rolledBack: true), "adopted 4@e"),
        (.unknownOutcome, stored(0, "f"), "restore 4@e"),
        // Which offset it had is not known.
        (.unknownWithKey, stored(3, "e", rolledBack: true), "renew 3@n"),
        (.unknownTwice, stored(3, "e", rolledBack: true), "renew 3@n"),
    ])
    func findings(_ proof: Proof, _ stored: StoredRoom, expected: String) async {
        let found = await Self.withRoom { room -> String in
            if proof != .nothing { _ = room.found(Self.stored(3, "e"), newEpoch: "n") }
            switch proof {
            case .nothing, .proven: break
            case .doubted: room.loseProof()
            case .unknownOutcome: Self.failUnknown(room)
            case .unknownWithKey: Self.failUnknown(room, key: "k")
            case .unknownTwice:
                Self.failUnknown(room)
                _ = room.found(Self.stored(3, "e"), newEpoch: "n")
                Self.failUnknown(room)
            }
            switch room.found(stored, newEpoch: "n") {
            case .adopted: return room.acknowledged.map { "adopted \($0.offset)@\($0.epoch)" } ?? "nothing"
            case .restore(let room): return "restore \(room.top.offset)@\(room.top.epoch)"
            case .renew(let room): return "renew \(room.top.offset)@\(room.top.epoch)"
            }
        }
        #expect(found == expected)
    }
}
