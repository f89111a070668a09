import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareProtocol
import FanfareTesting
import Testing

@testable import FanfareFabric

/// What a session does with pushes under its user's preferences. The clock of these tests begins at 2026-01-01T00:00:00Z.
@Suite("Preferences of sessions") struct PreferencesTests {
    private static let start = Timestamp(milliseconds: 1_767_225_600_000)

    private static func push(_ sequence: UInt64, streamer: String? = "bob", ttl: Int64? = nil) -> InboxPush {
        let expiresAt = ttl.map { Timestamp(milliseconds: PreferencesTests.start.milliseconds + $0 * 1000) }
        return InboxPush(
            InboxEntry(
                sequence: sequence, event: EventID(1), type: "raid", data: Bytes("1".utf8), createdAt: start,
                isRead: false, expiresAt: expiresAt, streamer: streamer.map { UserID(unchecked: $0) }))
    }

    /// Connects, has the session do one thing after the other, and tells the offsets that were pushed after each.
    private static func offsets(
        _ steps: [(after: Duration, @Sendable (isolated Session) -> Void)]
    ) async -> [[Int64]] {
        await onOwnThread {
            let bench = Bench { $0.session.pingInterval = .zero }
            let client = bench.connect("user:a")
            return steps.map { step in
                bench.run(step.after)
                bench.loop.execute { client.session?.onThisLoop(step.1) }
                bench.run(.milliseconds(10))
                return client.pushes.map { $0["pub"]?["offset"]?.integerValue ?? 0 }
            }
        }
    }

    @Test("what is muted is passed over, for good")
    func muted() async {
        let mute = Mute(since: Self.start, until: Timestamp(milliseconds: Self.start.milliseconds + 60_000))
        let offsets = await Self.offsets([
            (.zero, { $0.adopt(PushPolicy(version: 1, mutedStreamers: [UserID(unchecked: "bob"): mute])) }),
            (.zero, { _ = $0.deliver(Self.push(1)) }),
            (.zero, { _ = $0.deliver(Self.push(2, streamer: "eve")) }),
            (.zero, { $0.adopt(PushPolicy(version: 2)) }),
            (.zero, { _ = $0.deliver(Self.push(1)) }),
            (.zero, { _ = $0.deliver(Self.push(3)) }),
            // Older preferences that come late change nothing.
            (.zero, { $0.adopt(PushPolicy(version: 1, mute: mute)) }),
            (.zero, { _ = $0.deliver(Self.push(4)) }),
        ])
        #expect(offsets == [[], [], [2], [2], [2], [2, 3], [2, 3], [2, 3, 4]])
    }

    @Test("what expired is passed over")
    func expired() async {
        let offsets = await Self.offsets([
            (.zero, { _ = $0.deliver(Self.push(1, ttl: 30)) }),
            (.seconds(31), { _ = $0.deliver(Self.push(2, ttl: 30)) }),
            (.zero, { _ = $0.deliver(Self.push(3)) }),
        ])
        #expect(offsets == [[1], [1], [1, 3]])
    }

    @Test("in quiet hours nothing but notices comes; afterwards all does")
    func quiet() async {
        let hours = QuietHours(from: 23 * 60, to: 2, timeZone: "UTC")
        let offsets = await Self.offsets([
            (.zero, { $0.adopt(PushPolicy(version: 1, quietHours: hours)) }),
            (.zero, { _ = $0.deliver(Self.push(1)) }),
            (.zero, { _ = $0.deliver(InboxPush(sequence: 0, payload: Bytes("{}".utf8))) }),
            (.seconds(110), { _ = $0.deliver(Self.push(2)) }),
            // What waited is read from the inbox, of which there is none here: see the tests of the whole cluster.
            (.seconds(20), { _ = $0.deliver(Self.push(3)) }),
        ])
        #expect(offsets == [[], [], [0], [0], [0, 3]])
    }

    @Test("quiet hours that are taken back end at once")
    func lifted() async {
        let hours = QuietHours(from: 23 * 60, to: 22 * 60, timeZone: "UTC")
        let offsets = await Self.offsets([
            (.zero, { $0.adopt(PushPolicy(version: 1, quietHours: hours)) }),
            (.zero, { _ = $0.deliver(Self.push(1)) }),
            (.zero, { $0.adopt(PushPolicy(version: 2)) }),
            (.zero, { _ = $0.deliver(Self.push(2)) }),
        ])
        #expect(offsets == [[], [], [], [2]])
    }
}
