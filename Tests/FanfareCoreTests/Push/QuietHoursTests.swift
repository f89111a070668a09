import FanfareCore
import FanfareModel
import Testing

@Suite struct QuietHoursTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var hours: String
        var zone: TimeZoneRules
        var now: String
        /// Nil: not quiet.
        var end: String?

        var testDescription: String { "\(self.hours) at \(self.now)" }
    }

    /// An hour ahead of UTC; two from 2026-03-29T01:00Z to 2026-10-25T01:00Z.
    static let berlin = TimeZoneRules([
        .init(at: time("2026-01-01T00:00:00Z"), offset: 3600), .init(at: time("2026-03-29T01:00:00Z"), offset: 7200),
        .init(at: time("2026-10-25T01:00:00Z"), offset: 3600),
    ])
    /// Half hours, and half an hour of summer time: from 2026-10-03T15:30Z.
    static let lordHowe = TimeZoneRules([
        .init(at: time("2026-05-01T00:00:00Z"), offset: 37_800),
        .init(at: time("2026-10-03T15:30:00Z"), offset: 39_600),
    ])
    static let newYork = TimeZoneRules([.init(at: time("2026-01-01T00:00:00Z"), offset: -18_000)])

    static let cases: [Case] = [
        // The edges: the first minute is in it, the last is not.
        Case(hours: "22:00-07:00", zone: .utc, now: "2026-06-01T21:59:59.999Z", end: nil),
        Case(hours: "22:00-07:00", zone: .utc, now: "2026-06-01T22:00:00Z", end: "2026-06-02T07:00:00Z"),
        Case(hours: "22:00-07:00", zone: .utc, now: "2026-06-01T00:00:00Z", end: "2026-06-01T07:00:00Z"),
        Case(hours: "22:00-07:00", zone: .utc, now: "2026-06-01T06:59:59.999Z", end: "2026-06-01T07:00:00Z"),
        Case(hours: "22:00-07:00", zone: .utc, now: "2026-06-01T07:00:00Z", end: nil),
        // Within a day.
        Case(hours: "12:30-13:15", zone: .utc, now: "2026-06-01T12:29:00Z", end: nil),
        Case(hours: "12:30-13:15", zone: .utc, now: "2026-06-01T13:00:30Z", end: "2026-06-01T13:15:00Z"),
        Case(hours: "00:00-23:59", zone: .utc, now: "2026-06-01T00:00:00Z", end: "2026-06-01T23:59:00Z"),
        Case(hours: "23:59-00:00", zone: .utc, now: "2026-06-01T23:59:30Z", end: "2026-06-02T00:00:00Z"),
        // Before 1970 there are days, too.
        Case(hours: "22:00-07:00", zone: .utc, now: "1969-12-31T23:00:00Z", end: "1970-01-01T07:00:00Z"),
        // By the clocks of the place.
        Case(hours: "22:00-07:00", zone: berlin, now: "2026-02-01T20:59:00Z", end: nil),
        Case(hours: "22:00-07:00", zone: berlin, now: "2026-02-01T21:00:00Z", end: "2026-02-02T06:00:00Z"),
        Case(hours: "22:00-07:00", zone: newYork, now: "2026-02-01T03:00:00Z", end: "2026-02-01T12:00:00Z"),
        Case(hours: "22:00-07:00", zone: newYork, now: "2026-02-01T22:00:00Z", end: nil),
        // The night in which the clocks go forward is an hour shorter, the one in which they go back an hour longer.
        Case(hours: "22:00-07:00", zone: berlin, now: "2026-03-28T21:00:00Z", end: "2026-03-29T05:00:00Z"),
        Case(hours: "22:00-07:00", zone: berlin, now: "2026-10-24T20:00:00Z", end: "2026-10-25T06:00:00Z"),
        // The hour that is left out: clocks jump over the end.
        Case(hours: "01:00-02:30", zone: berlin, now: "2026-03-29T00:30:00Z", end: "2026-03-29T01:00:00Z"),
        // A stretch that lies in it is not that night.
        Case(hours: "02:00-03:00", zone: berlin, now: "2026-03-29T00:59:59Z", end: nil),
        Case(hours: "02:00-03:00", zone: berlin, now: "2026-03-29T01:00:00Z", end: nil),
        // The hour that is there twice: quiet twice.
        Case(hours: "02:00-02:30", zone: berlin, now: "2026-10-25T00:10:00Z", end: "2026-10-25T00:30:00Z"),
        Case(hours: "02:00-02:30", zone: berlin, now: "2026-10-25T00:40:00Z", end: nil),
        Case(hours: "02:00-02:30", zone: berlin, now: "2026-10-25T01:10:00Z", end: "2026-10-25T01:30:00Z"),
        Case(hours: "02:30-03:00", zone: berlin, now: "2026-10-25T00:40:00Z", end: "2026-10-25T01:00:00Z"),
        Case(hours: "01:45-02:15", zone: lordHowe, now: "2026-10-03T15:20:00Z", end: "2026-10-03T15:30:00Z"),
    ]

    @Test(arguments: cases) func table(_ one: Case) throws {
        let hours = try #require(quiet(one.hours))
        #expect(hours.end(at: time(one.now), one.zone) == one.end.map { time($0) })
    }

    @Test func whatIsNoStretch() {
        #expect(QuietHours(from: 60, to: 60, timeZone: "UTC") == nil)
        #expect(QuietHours(from: -1, to: 60, timeZone: "UTC") == nil)
        #expect(QuietHours(from: 0, to: 1440, timeZone: "UTC") == nil)
    }

    /// The end is the first moment that is not quiet, whatever the rules are: found by looking at every minute.
    @Test(arguments: 0..<40) func endIsTheFirstMomentAfter(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<20 {
            let base = time("2026-03-01T00:00:00Z").milliseconds
            var at = base
            var changes: [TimeZoneRules.Change] = []
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                changes.append(
                    .init(at: Timestamp(milliseconds: at), offset: 900 * Int.random(in: -48...56, using: &random)))
                at += 900_000 * Int64.random(in: 1...200, using: &random)
            }
            let rules = TimeZoneRules(changes)
            let hours = try #require(
                QuietHours(
                    from: Int.random(in: 0..<720, using: &random), to: Int.random(in: 720..<1440, using: &random),
                    timeZone: "X"
                )
                .flatMap { Bool.random(using: &random) ? $0 : QuietHours(from: $0.to, to: $0.from, timeZone: "X") })
            let now = Timestamp(milliseconds: base + 60_000 * Int64.random(in: 0...4000, using: &random))
            var expected: Timestamp?
            if isQuiet(hours, rules, now) {
                var next = now
                while isQuiet(hours, rules, next) { next = Timestamp(milliseconds: next.milliseconds + 60_000) }
                expected = next
            }
            #expect(hours.end(at: now, rules) == expected, "seed \(seed): \(hours) \(rules) at \(now)")
        }
    }

    private func isQuiet(_ hours: QuietHours, _ rules: TimeZoneRules, _ time: Timestamp) -> Bool {
        let local = time.milliseconds + Int64(rules.offset(at: time)) * 1000
        let minute = Int(((local % 86_400_000) + 86_400_000) % 86_400_000 / 60_000)
        var each = hours.from
        while each != hours.to {
            if each == minute { return true }
            each = (each + 1) % 1440
        }
        return false
    }
}

func time(_ text: String) -> Timestamp { Timestamp(rfc3339: text) ?? Timestamp(milliseconds: .min) }

/// `HH:MM-HH:MM`
func quiet(_ text: String, _ zone: String = "UTC") -> QuietHours? {
    let numbers = text.split { $0 == ":" || $0 == "-" }.compactMap { Int($0) }
    guard numbers.count == 4 else { return nil }
    return QuietHours(from: numbers[0] * 60 + numbers[1], to: numbers[2] * 60 + numbers[3], timeZone: zone)
}
