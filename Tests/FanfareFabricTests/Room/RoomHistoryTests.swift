import FanfareEngines
import FanfareModel
import Testing

@testable import FanfareFabric

@Suite("Pages of a room's history") struct RoomHistoryTests {
    /// Offsets 4…8 are kept.
    static let stored = StoredRoom(
        top: StreamPosition(offset: 8, epoch: "e"), bodies: (4...8).map { [UInt8($0)] }, firstOffset: 4)

    static func filter(_ limit: Int, _ since: UInt64? = nil, epoch: String = "e", reverse: Bool = false)
        -> HistoryFilter
    {
        HistoryFilter(limit: limit, since: since.map { StreamPosition(offset: $0, epoch: epoch) }, reverse: reverse)
    }

    @Test(
        arguments: [
            (filter(0), []), (filter(-1), [4, 5, 6, 7, 8]), (filter(2), [4, 5]), (filter(-1, 6), [7, 8]),
            (filter(1, 6), [7]), (filter(-1, 0), [4, 5, 6, 7, 8]), (filter(-1, 8), []), (filter(-1, 99), []),
            (filter(-1, .max), []), (filter(-1, 6, epoch: ""), [7, 8]), (filter(-1, reverse: true), [8, 7, 6, 5, 4]),
            (filter(2, reverse: true), [8, 7]), (filter(-1, 6, reverse: true), [5, 4]),
            (filter(-1, 4, reverse: true), []), (filter(-1, 1, reverse: true), []),
            (filter(2, .max, reverse: true), [8, 7]), (filter(.min, 6), [7, 8]),
        ] as [(HistoryFilter, [UInt64])])
    func pages(_ filter: HistoryFilter, _ offsets: [UInt64]) throws {
        let page = try RoomHistory(Self.stored, filter: filter)
        #expect(page.entries.map(\.offset) == offsets)
        #expect(page.entries.map(\.body) == offsets.map { [UInt8($0)] })
        #expect(page.top == Self.stored.top)
    }

    @Test func refusals() {
        #expect(throws: FanfareError.unrecoverablePosition) {
            try RoomHistory(Self.stored, filter: Self.filter(0, 6, epoch: "f"))
        }
        let error = #expect(throws: FanfareError.self) {
            try RoomHistory(Self.stored, filter: Self.filter(1, 0, reverse: true))
        }
        #expect(error?.code == 107)
    }

    @Test("pages are bounded in publications and in bytes, and never empty for bytes alone") func bounds() throws {
        let many = StoredRoom(
            top: StreamPosition(offset: 400, epoch: "e"), bodies: Array(repeating: [1], count: 400), firstOffset: 1)
        #expect(try RoomHistory(many, filter: Self.filter(-1)).entries.count == RoomHistory.maximumCount)
        #expect(try RoomHistory(many, filter: Self.filter(.max)).entries.count == RoomHistory.maximumCount)
        let body = Bytes(repeating: 1, count: RoomHistory.maximumBytes / 2)
        let heavy = StoredRoom(
            top: StreamPosition(offset: 3, epoch: "e"), bodies: [body + body + [1], body, body], firstOffset: 1)
        #expect(try RoomHistory(heavy, filter: Self.filter(-1)).entries.map(\.offset) == [1])
        #expect(try RoomHistory(heavy, filter: Self.filter(-1, 1)).entries.map(\.offset) == [2, 3])
    }
}
