package import FanfareModel

/// A rate limit in eight bytes, for what there are very many of: so many units a second on average, so many at once
/// (the generic cell rate algorithm: all it remembers is when everything is there again).
package struct Pacer: Sendable, Hashable {
    /// What pacers of one kind allow.
    package struct Rate: Sendable, Hashable {
        /// Nanoseconds in which one unit comes back.
        fileprivate let interval: Int64
        /// Nanoseconds in which all of them do.
        fileprivate let span: Int64

        /// - Parameters:
        ///   - perSecond: 1 to 1,000,000,000.
        ///   - burst: how many at once, 1 to 1,000,000,000.
        package init(perSecond: Int, burst: Int) {
            self.interval = 1_000_000_000 / Int64(min(max(perSecond, 1), 1_000_000_000))
            self.span = self.interval * Int64(min(max(burst, 1), 1_000_000_000))
        }
    }

    private var fullAt = MonotonicInstant(nanoseconds: 0)

    package init() {}

    /// Takes one unit, or nothing.
    /// - Returns: whether there was one.
    package mutating func take(_ rate: Rate, now: MonotonicInstant) -> Bool {
        let full = max(self.fullAt.nanoseconds, now.nanoseconds) + rate.interval
        guard full - now.nanoseconds <= rate.span else { return false }
        self.fullAt = MonotonicInstant(nanoseconds: full)
        return true
    }
}
