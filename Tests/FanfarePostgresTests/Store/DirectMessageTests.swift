import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

@Suite struct DirectMessageTests {
    @Test func appendAndRead() async throws {
        try await Database.withStore { store, _ in
            let empty = try await store.readDirect("dm:a:b", HistoryFilter(limit: -1))
            #expect(empty.entries.isEmpty && empty.top.offset == 0 && empty.top.epoch.count == 8)
            let appended = try await store.appendDirect(
                "dm:a:b",
                [
                    AppendEntry(body: [1]), AppendEntry(body: [], idempotencyKey: "k"),
                    AppendEntry(body: [3], idempotencyKey: "k"), AppendEntry(body: [4]),
                ])
            #expect(appended.map(\.position.offset) == [1, 2, 2, 3])
            #expect(appended.map(\.isDuplicate) == [false, false, true, false])
            let again = try await store.appendDirect("dm:a:b", [AppendEntry(body: [9], idempotencyKey: "k")])
            #expect(
                again == [AppendedEntry(position: StreamPosition(offset: 2, epoch: empty.top.epoch), isDuplicate: true)]
            )
            #expect(
                try await store.appendDirect("dm:a:c", [AppendEntry(body: [9], idempotencyKey: "k")])[0].position.offset
                    == 1)
            #expect(try await store.appendDirect("dm:a:d", []).isEmpty)
            let top = StreamPosition(offset: 3, epoch: empty.top.epoch)
            func read(_ limit: Int, since: UInt64? = nil, reverse: Bool = false) async throws -> [UInt64] {
                let filter = HistoryFilter(
                    limit: limit, since: since.map { StreamPosition(offset: $0, epoch: "") }, reverse: reverse)
                let history = try await store.readDirect("dm:a:b", filter)
                #expect(history.top == top)
                return history.entries.map(\.offset)
            }
            #expect(try await read(0) == [])
            #expect(try await read(-1) == [1, 2, 3])
            #expect(try await read(2) == [1, 2])
            #expect(try await read(2, since: 1) == [2, 3])
            #expect(try await read(2, since: 3) == [])
            #expect(try await read(2, reverse: true) == [3, 2])
            #expect(try await read(9, since: 3, reverse: true) == [2, 1])
            let bodies = try await store.readDirect("dm:a:b", HistoryFilter(limit: -1)).entries.map(\.body)
            #expect(bodies == [[1], [], [4]])
        }
    }

    @Test func writersDoNotShareOffsets() async throws {
        try await Database.withStore { store, _ in
            let offsets = try await withThrowingTaskGroup(of: [UInt64].self) { group in
                for writer in 0..<16 {
                    group.addTask {
                        var offsets: [UInt64] = []
                        for number in 0..<20 {
                            let body = Bytes("\(writer)-\(number)".utf8)
                            offsets += try await store.appendDirect("dm:a:b", [AppendEntry(body: body)])
                                .map(\.position.offset)
                        }
                        #expect(offsets == offsets.sorted())
                        return offsets
                    }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            #expect(offsets.sorted() == Array(1...320))
            let history = try await store.readDirect("dm:a:b", HistoryFilter(limit: -1))
            #expect(history.entries.map(\.offset) == Array(1...320))
        }
    }
}
