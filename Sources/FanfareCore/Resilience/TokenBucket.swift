package import FanfareModel

/// A rate limit: `rate` units a second on average, `burst` at once.
package struct TokenBucket: Sendable {
    package enum Decision: Sendable, Hashable {
        case allowed
        /// Nothing was taken; so many units are there again after this time. `.seconds(86_400)` at the most.
        case refused(retryAfter: Duration)
    }

    /// Units a second; 0 refuses once the burst is used up.
    package let rate: Double
    /// The most that is ever saved up.
    package let burst: Double
    private var tokens: Double
    private var updated: MonotonicInstant

    package init(rate: Double, burst: Double, now: MonotonicInstant) {
        self.rate = rate.isFinite ? max(0, rate) : 0
        self.burst = burst.isFinite ? max(1, burst) : 1
        self.tokens = self.burst
        self.updated = now
    }

    /// Takes `count` units, or none. More than `burst` at once is counted as `burst`, so that it is not refused forever.
    package mutating func take(_ count: Double = 1, now: MonotonicInstant) -> Decision {
        self.refill(now: now)
        let count = min(max(0, count), self.burst)
        // A unit that is there but for rounding counts: a caller who waits as told must get it.
        guard self.tokens + 1e-6 < count else {
            self.tokens = max(0, self.tokens - count)
            return .allowed
        }
        let seconds = self.rate > 0 ? min((count - self.tokens) / self.rate, 86_400) : 86_400
        return .refused(retryAfter: .nanoseconds(Int64((seconds * 1e9).rounded(.up))))
    }

    /// Nothing was taken for so long that the bucket is as good as new: its owner may forget it.
    package mutating func isFull(now: MonotonicInstant) -> Bool {
        self.refill(now: now)
        return self.tokens >= self.burst
    }

    private mutating func refill(now: MonotonicInstant) {
        guard now > self.updated else { return }
        self.tokens = min(self.burst, self.tokens + (now - self.updated).secondsAsDouble * self.rate)
        self.updated = now
    }
}
