import FanfareModel

/// Exponential backoff with full jitter: a herd that failed together does not come back together.
package struct Backoff: Sendable, Hashable {
    /// The longest first delay. At least 1 ms.
    package let base: Duration
    /// The longest delay of all; not below `base`.
    package let cap: Duration

    package init(base: Duration = .milliseconds(100), cap: Duration = .seconds(10)) {
        self.base = max(base, .milliseconds(1))
        self.cap = max(cap, self.base)
    }

    /// How long to wait before attempt `attempt + 1`: uniform in (0, min(cap, base × 2^attempt)].
    /// - Parameters:
    ///   - attempt: 0 after the first failure; any value is legal.
    ///   - random: 64 random bits.
    package func delay(attempt: Int, random: UInt64) -> Duration {
        .nanoseconds(1 + Int64(random % UInt64(self.ceiling(attempt: attempt).nanoseconds)))
    }

    /// The longest delay of this attempt.
    package func ceiling(attempt: Int) -> Duration {
        let base = self.base.nanoseconds
        let cap = self.cap.nanoseconds
        let shift = min(max(attempt, 0), 62)
        return .nanoseconds(base > cap >> shift ? cap : min(cap, base << shift))
    }
}
