import FanfareCore
import FanfareModel
import Testing

@Suite struct PushPolicyTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var name: String
        var policy = PushPolicy()
        var event = PushedEvent(type: "stream.live", streamer: ada, createdAt: now)
        var decision: PushPolicy.Decision

        var testDescription: String { self.name }
    }

    static let now = time("2026-06-01T12:00:00Z")
    static let ada = UserID(unchecked: "ada")
    static let eve = UserID(unchecked: "eve")
    static let hour: Int64 = 3_600_000
    static func at(_ hours: Double) -> Timestamp {
        Timestamp(milliseconds: now.milliseconds + Int64(hours * Double(hour)))
    }
    static let live = PushedEvent(type: "stream.live", streamer: ada, createdAt: now)
    static let raid = PushedEvent(type: "raid", streamer: ada, createdAt: now)
    static let mention = PushedEvent(type: "mention", createdAt: now)
    static let earlier = PushedEvent(type: "stream.live", streamer: ada, createdAt: at(-2))
    static let atNoon = quiet("11:00-13:00")

    static let cases: [Case] = [
        Case(name: "nothing was asked for", decision: .give),
        Case(name: "live, of a stream", policy: PushPolicy(level: .live), event: live, decision: .give),
        Case(name: "live, of something else", policy: PushPolicy(level: .live), event: raid, decision: .skip),
        Case(name: "none", policy: PushPolicy(level: .none), event: live, decision: .skip),
        Case(name: "none, but named", policy: PushPolicy(level: .none), event: mention, decision: .give),
        Case(
            name: "muted", policy: PushPolicy(mute: Mute(since: at(-1), until: at(1))), event: mention, decision: .skip),
        Case(name: "a mute that is over", policy: PushPolicy(mute: Mute(since: at(-1), until: now)), decision: .give),
        Case(
            name: "what happened in a mute that is over", policy: PushPolicy(mute: Mute(since: at(-3), until: at(-1))),
            event: earlier, decision: .skip),
        Case(
            name: "what happened before a mute that is over",
            policy: PushPolicy(mute: Mute(since: at(-1), until: at(-0.5))), event: earlier, decision: .give),
        Case(
            name: "its streamer is muted", policy: PushPolicy(mutedStreamers: [ada: Mute(since: at(-1), until: at(1))]),
            decision: .skip),
        Case(
            name: "another is muted", policy: PushPolicy(mutedStreamers: [eve: Mute(since: at(-1), until: at(1))]),
            decision: .give),
        Case(
            name: "its streamer was muted then",
            policy: PushPolicy(mutedStreamers: [ada: Mute(since: at(-3), until: at(-1))]), event: earlier,
            decision: .skip),
        Case(
            name: "a muted streamer, but named",
            policy: PushPolicy(mutedStreamers: [ada: Mute(since: at(-1), until: at(1))]), event: mention,
            decision: .give),
        Case(name: "quiet", policy: PushPolicy(quietHours: atNoon), decision: .wait(until: at(1))),
        Case(
            name: "quiet and named", policy: PushPolicy(quietHours: atNoon), event: mention,
            decision: .wait(until: at(1))),
        Case(
            name: "quiet elsewhere",
            policy: PushPolicy(
                quietHours: atNoon, timeZone: TimeZoneRules([.init(at: at(-100), offset: 7200)])), decision: .give),
        Case(
            name: "muted in quiet hours",
            policy: PushPolicy(mute: Mute(since: at(-1), until: at(1)), quietHours: atNoon), decision: .skip),
        Case(
            name: "expired",
            event: PushedEvent(type: "raid", streamer: ada, createdAt: at(-1), expiresAt: now), decision: .skip),
        Case(
            name: "not expired yet",
            event: PushedEvent(type: "raid", streamer: ada, createdAt: at(-1), expiresAt: at(0.001)), decision: .give),
        Case(
            name: "stale", event: PushedEvent(type: "stream.live", streamer: ada, createdAt: now, isStale: true),
            decision: .skip),
    ]

    @Test(arguments: cases) func table(_ one: Case) {
        #expect(one.policy.decide(one.event, at: PushPolicyTests.now) == one.decision)
    }
}
