package import FanfareModel

/// How fast dead letters are settled, and what is shown meanwhile: a bar on a terminal, else a line every few seconds.
package struct SettlementPace: Sendable {
    /// The most that one request settles: it is one transaction.
    package static let largestPortion = 500

    /// Dead letters a second; nil: as fast as it goes.
    package let rate: Int?
    private let started: MonotonicInstant
    private var line: ProgressLine

    /// - Parameter rate: 1 to 100,000.
    package init(rate: Int?, isTerminal: Bool, now: MonotonicInstant) {
        self.rate = rate.map { min(max($0, 1), 100_000) }
        self.started = now
        self.line = ProgressLine(isTerminal: isTerminal, begun: now)
    }

    /// How many at once: a quarter of a second's worth.
    package var portion: Int {
        guard let rate = self.rate else { return Self.largestPortion }
        return min(max(rate / 4, 1), Self.largestPortion)
    }

    /// When the next portion may go, after `done` have gone.
    package func next(after done: Int) -> MonotonicInstant {
        guard let rate = self.rate else { return self.started }
        return self.started + .nanoseconds(Int64(Double(done) / Double(rate) * 1e9))
    }

    /// The text to show now, if it is time.
    package mutating func due(done: Int, of total: Int, verb: String, now: MonotonicInstant) -> String? {
        self.line.isDue(now) ? self.text(done: done, of: total, verb: verb, now: now) : nil
    }

    package func text(done: Int, of total: Int, verb: String, now: MonotonicInstant) -> String {
        let seconds = max(0.001, (now - self.started).secondsAsDouble)
        let share = total > 0 ? min(1, Double(done) / Double(total)) : 1
        return self.line.head(share, after: seconds) + "\(Readable.count(done)) of \(Readable.count(total)) \(verb), "
            + "\(Readable.count(Int(Double(done) / seconds)))/s"
    }
}
