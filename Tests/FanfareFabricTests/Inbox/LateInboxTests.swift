import FanfareEngines
import FanfareModel
import Testing

@testable import FanfareFabric

/// What is owed to a client that connected while the store was away.
@Suite struct LateInboxTests {
    private static let connected = Timestamp(milliseconds: 1_000_000)

    /// Newest first, as an inbox is read; sequences in steps of ten, one second apart, the oldest at the connect.
    private func inbox(new: Int, old: Int = 0) -> [InboxEntry] {
        let all = (1...max(1, new + old)).map { number in
            InboxEntry(
                sequence: UInt64(number * 10), event: EventID(Int64(number)), type: "raid", data: [],
                createdAt: Timestamp(
                    milliseconds: number > old
                        ? Self.connected.milliseconds + Int64(number - old - 1) * 1000
                        : Self.connected.milliseconds - LateInbox.clockSkew - 1),
                isRead: false)
        }
        return new + old > 0 ? all.reversed() : []
    }

    @Test(arguments: [0, 1, 2, 300]) func atTheLimit(limit: Int) throws {
        for old in [0, 1] {
            for new in 0...min(limit, 3) {
                let late = try #require(LateInbox(self.inbox(new: new, old: old), since: Self.connected, limit: limit))
                #expect(late.entries.map(\.sequence) == (0..<new).map { UInt64(($0 + 1 + old) * 10) })
                #expect(late.position == UInt64(old * 10))
            }
            let full = LateInbox(self.inbox(new: limit, old: old), since: Self.connected, limit: limit)
            #expect(full?.entries.count == limit && full?.position == UInt64(old * 10))
            #expect(LateInbox(self.inbox(new: limit + 1, old: old), since: Self.connected, limit: limit) == nil)
        }
    }

    /// The clocks of database and node may differ by so much.
    @Test(arguments: [(LateInbox.clockSkew, 1), (LateInbox.clockSkew + 1, 0)]) func theClocksDiffer(
        by skew: Int64, count: Int
    ) {
        let since = Timestamp(milliseconds: Self.connected.milliseconds + skew)
        #expect(LateInbox(self.inbox(new: 1), since: since, limit: 5)?.entries.count == count)
    }
}
