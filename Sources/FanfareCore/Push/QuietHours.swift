package import FanfareModel

/// A stretch of every day, by the clocks of one place, in which a user wants to be left alone.
package struct QuietHours: Sendable, Hashable {
    /// Minutes of the day, 0–1439. The stretch includes `from` and ends before `to`; where `to` is not later than `from` it
    /// goes over midnight. Equal ones are no stretch: `init` refuses them.
    package let from: Int
    package let to: Int
    /// An IANA name: `Europe/Berlin`.
    package let timeZone: String

    package init?(from: Int, to: Int, timeZone: String) {
        guard (0..<1440).contains(from), (0..<1440).contains(to), from != to else { return nil }
        self.from = from
        self.to = to
        self.timeZone = timeZone
    }

    /// - Returns: when the stretch ends in which `now` lies; nil where it lies in none.
    package func end(at now: Timestamp, _ rules: TimeZoneRules) -> Timestamp? {
        var time = now
        // Clocks are changed once in a stretch at the most; the bound is for rules that make no sense.
        for _ in 0..<16 {
            let day: Int64 = 86_400_000
            let local = time.milliseconds + Int64(rules.offset(at: time)) * 1000
            let sinceMidnight = (local % day + day) % day
            guard self.includes(minute: Int(sinceMidnight / 60_000)) else { return time == now ? nil : time }
            let untilEnd = (Int64(self.to) * 60_000 - sinceMidnight + day) % day
            let end = Timestamp(milliseconds: time.milliseconds + untilEnd)
            // Clocks that are changed before may jump over the end, or away from it.
            guard let change = rules.nextChange(after: time), change < end else { return end }
            time = change
        }
        return time
    }

    private func includes(minute: Int) -> Bool {
        self.from < self.to ? (self.from..<self.to).contains(minute) : minute >= self.from || minute < self.to
    }
}
