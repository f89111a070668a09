import FanfareModel
import Testing

@testable import FanfareCore

@Suite struct DeliveryCursorTests {
    @Test(
        arguments: [
            (11, 1, DeliveryCursor.Outcome.deliver(droppingFirst: 0), 11),
            (11, 5, .deliver(droppingFirst: 0), 15),
            (9, 5, .deliver(droppingFirst: 2), 13),
            (10, 1, .duplicate, 10),
            (1, 10, .duplicate, 10),
            (0, 12, .deliver(droppingFirst: 11), 11),
            (12, 1, .gap(from: 11), 10),
            (11, 0, .duplicate, 10),
            (UInt64.max, 2, .duplicate, 10),
            (UInt64.max, 1, .gap(from: 11), 10),
        ] as [(UInt64, Int, DeliveryCursor.Outcome, UInt64)])
    func table(firstOffset: UInt64, count: Int, outcome: DeliveryCursor.Outcome, last: UInt64) {
        var cursor = DeliveryCursor(epoch: "e", last: 10)
        #expect(cursor.accept(epoch: "e", firstOffset: firstOffset, count: count) == outcome)
        #expect(cursor.last == last)
    }

    @Test func anotherEpoch() {
        var cursor = DeliveryCursor(epoch: "e", last: 10)
        #expect(cursor.accept(epoch: "f", firstOffset: 11, count: 1) == .epochChanged)
        #expect(cursor.position == StreamPosition(offset: 10, epoch: "e"))
        cursor.reset(to: StreamPosition(offset: 4, epoch: "f"))
        #expect(cursor.accept(epoch: "f", firstOffset: 5, count: 1) == .deliver(droppingFirst: 0))
    }

    @Test func everyOffsetOnceInOrderWhateverArrives() {
        for seed in 0..<50 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            var cursor = DeliveryCursor(epoch: "e", last: 0)
            var delivered: [UInt64] = []
            for _ in 0..<500 {
                var first = UInt64.random(in: 1...(cursor.last + 4), using: &generator)
                var count = Int.random(in: 0...4, using: &generator)
                var outcome = cursor.accept(epoch: "e", firstOffset: first, count: count)
                if case .gap(let from) = outcome {
                    count += Int(first - from)
                    first = from
                    outcome = cursor.accept(epoch: "e", firstOffset: first, count: count)
                }
                if case .deliver(let dropped) = outcome {
                    delivered += (0..<count).dropFirst(dropped).map { first + UInt64($0) }
                }
            }
            #expect(delivered == Array(1...cursor.last), "seed \(seed)")
        }
    }
}

@Suite struct HistoryTailTests {
    @Test func boundsByCountAndBytes() {
        var tail = HistoryTail<Bytes>(top: StreamPosition(offset: 40, epoch: "e"), maximumCount: 3, maximumBytes: 10)
        #expect(tail.since(40) == [] && tail.since(39) == nil && tail.since(41) == nil)
        #expect(tail.append([1, 1]) == 41)
        #expect(tail.append([2, 2]) == 42)
        #expect(tail.append([3, 3]) == 43)
        #expect(tail.append([4, 4]) == 44)
        #expect(tail.firstOffset == 42 && tail.bytes == 6)
        #expect(tail.since(41) == [[2, 2], [3, 3], [4, 4]])
        #expect(tail.since(42, limit: 1) == [[3, 3]])
        #expect(tail.since(40) == nil)
        tail.append(Bytes(repeating: 5, count: 8))
        #expect(tail.firstOffset == 44 && tail.bytes == 10)
        tail.append(Bytes(repeating: 6, count: 11))
        #expect(tail.isEmpty && tail.top.offset == 46 && tail.firstOffset == 47 && tail.bytes == 0)
        #expect(tail.since(46) == [] && tail.since(45) == nil)
    }

    @Test func reverse() {
        var tail = HistoryTail<Bytes>(top: StreamPosition(offset: 0, epoch: "e"), maximumCount: 4, maximumBytes: 100)
        for byte in 1...6 as ClosedRange<UInt8> { tail.append([byte]) }
        #expect(tail.before(nil).map(\.offset) == [6, 5, 4, 3])
        #expect(tail.before(6, limit: 2).map(\.offset) == [5, 4])
        #expect(tail.before(6, limit: 2).map(\.body) == [[5], [4]])
        #expect(tail.before(3).isEmpty && tail.before(0).isEmpty)
        #expect(tail.before(.max, limit: 1).map(\.offset) == [6])
    }

    @Test func agreesWithAPlainModel() {
        for seed in 0..<30 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let count = Int.random(in: 0...50, using: &generator)
            let bytes = Int.random(in: 0...400, using: &generator)
            var tail = HistoryTail<Bytes>(
                top: StreamPosition(offset: 7, epoch: "e"), maximumCount: count, maximumBytes: bytes)
            var model: [(offset: UInt64, body: Bytes)] = []
            for _ in 0..<600 {
                if Int.random(in: 0..<100, using: &generator) == 0 {
                    tail.removeAll()
                    model = []
                }
                let body = Bytes(repeating: 1, count: Int.random(in: 0...30, using: &generator))
                model.append((tail.append(body), body))
                while model.count > count || model.reduce(0, { $0 + $1.body.count }) > bytes { model.removeFirst() }
                #expect(
                    tail.count == model.count && tail.bytes == model.reduce(0) { $0 + $1.body.count }, "seed \(seed)")
                let since = tail.top.offset - UInt64.random(in: 0...min(60, tail.top.offset), using: &generator)
                let expected = model.filter { $0.offset > since }.map(\.body)
                let isCovered = UInt64(expected.count) == tail.top.offset - since
                #expect(tail.since(since) == (isCovered ? expected : nil), "seed \(seed)")
            }
        }
    }
}
