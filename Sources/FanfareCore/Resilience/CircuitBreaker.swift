package import FanfareModel

/// Stops calling an engine that keeps failing, and lets one call at a time probe whether it is back.
///
/// Ask `allow` before each call and report its end by `succeeded` or `failed`. Report only what says something of the
/// engine's health: a refusal of bad data is a success here.
package struct CircuitBreaker: Sendable {
    package struct Configuration: Sendable, Hashable {
        /// Failures in a row that open the breaker. At least 1.
        package var consecutiveFailures: Int
        /// Share of failures within `window` that opens it, 0–1; above 1 never does.
        package var failureRatio: Double
        /// Calls within `window` below which the share says nothing.
        package var minimumCalls: Int
        package var window: Duration
        /// How long the breaker stays open the first time; doubles with each probe that fails.
        package var openTime: Duration
        package var maximumOpenTime: Duration
        /// A probe without a result for this long is taken for lost, and another call becomes the probe.
        package var probeTimeout: Duration

        package init(
            consecutiveFailures: Int = 5, failureRatio: Double = 0.5, minimumCalls: Int = 20,
            window: Duration = .seconds(10), openTime: Duration = .milliseconds(250),
            maximumOpenTime: Duration = .seconds(10), probeTimeout: Duration = .seconds(5)
        ) {
            self.consecutiveFailures = max(1, consecutiveFailures)
            self.failureRatio = failureRatio
            self.minimumCalls = max(1, minimumCalls)
            self.window = max(window, .milliseconds(10))
            self.openTime = max(openTime, .milliseconds(1))
            self.maximumOpenTime = max(maximumOpenTime, openTime)
            self.probeTimeout = probeTimeout
        }
    }

    package enum State: String, Sendable, Hashable, CaseIterable {
        case closed
        case open
        case halfOpen = "half_open"

        /// Of several breakers, by their states' names: open, else half open, else closed.
        package static func worst(_ states: some Sequence<String>) -> String {
            let states = Set(states)
            return [State.open, .halfOpen].map(\.rawValue).first { states.contains($0) } ?? State.closed.rawValue
        }
    }

    package enum Decision: Sendable, Hashable {
        case proceed
        /// Proceed: this call decides whether the breaker closes. The state is `half_open` now.
        case probe
        /// Do not call. `retryAfter` is positive.
        case refuse(retryAfter: Duration)
    }

    /// A change of state that a driver logs and counts.
    package struct Transition: Sendable, Hashable {
        package let from: State
        package let to: State
        /// Until the next probe; zero unless `to` is `open`.
        package let openFor: Duration
    }

    private enum Phase {
        case closed
        case open(until: MonotonicInstant)
        case halfOpen(probeSince: MonotonicInstant)
    }

    package let configuration: Configuration
    private var phase: Phase = .closed
    private var failuresInARow = 0
    private var outcomes: OutcomeWindow
    /// How often it opened without a success in between: the exponent of the open time.
    private var openings = 0

    package init(_ configuration: Configuration = Configuration()) {
        self.configuration = configuration
        self.outcomes = OutcomeWindow(length: configuration.window)
    }

    package var state: State {
        switch self.phase {
        case .closed: .closed
        case .open: .open
        case .halfOpen: .halfOpen
        }
    }

    /// Whether a call may be made now. `.probe` is also the transition to `half_open`.
    package mutating func allow(now: MonotonicInstant) -> Decision {
        switch self.phase {
        case .closed:
            return .proceed
        case .open(let until) where now < until:
            return .refuse(retryAfter: until - now)
        case .open:
            self.phase = .halfOpen(probeSince: now)
            return .probe
        case .halfOpen(let since):
            let lost = since + self.configuration.probeTimeout
            guard now < lost else {
                self.phase = .halfOpen(probeSince: now)
                return .probe
            }
            return .refuse(retryAfter: min(lost - now, self.configuration.openTime))
        }
    }

    /// When a caller who is refused now may try again; nil while it is closed. Positive.
    package func retryAfter(now: MonotonicInstant) -> Duration? {
        switch self.phase {
        case .closed: nil
        case .open(let until): max(until - now, .milliseconds(1))
        case .halfOpen(let since):
            max(min(since + self.configuration.probeTimeout - now, self.configuration.openTime), .milliseconds(1))
        }
    }

    /// Whether `allow` would let a probe through now.
    package func wantsProbe(now: MonotonicInstant) -> Bool {
        switch self.phase {
        case .closed: false
        case .open(let until): now >= until
        case .halfOpen(let since): now >= since + self.configuration.probeTimeout
        }
    }

    /// A call ended well. Late results of calls from before the breaker opened change nothing.
    @discardableResult
    package mutating func succeeded(now: MonotonicInstant) -> Transition? {
        switch self.phase {
        case .closed:
            self.failuresInARow = 0
            self.openings = 0
            self.outcomes.record(failure: false, now: now)
            return nil
        case .open:
            return nil
        case .halfOpen:
            self.phase = .closed
            self.failuresInARow = 0
            self.openings = 0
            self.outcomes.reset()
            return Transition(from: .halfOpen, to: .closed, openFor: .zero)
        }
    }

    /// The link to the engine is a new one, and it works: what failed over the old one says nothing.
    @discardableResult
    package mutating func replaced() -> Transition? {
        let from = self.state
        self.phase = .closed
        self.failuresInARow = 0
        self.openings = 0
        self.outcomes.reset()
        return from == .closed ? nil : Transition(from: from, to: .closed, openFor: .zero)
    }

    /// A call failed in a way that speaks against the engine.
    /// - Parameter random: spreads the probes of many nodes: the open time is 50–100 % of the exponential one.
    @discardableResult
    package mutating func failed(now: MonotonicInstant, random: UInt64) -> Transition? {
        switch self.phase {
        case .closed:
            self.failuresInARow += 1
            self.outcomes.record(failure: true, now: now)
            let (calls, failures) = self.outcomes.totals(now: now)
            let byRatio =
                calls >= self.configuration.minimumCalls
                && Double(failures) >= self.configuration.failureRatio * Double(calls)
            guard byRatio || self.failuresInARow >= self.configuration.consecutiveFailures else { return nil }
            return self.open(from: .closed, now: now, random: random)
        case .open:
            return nil
        case .halfOpen:
            return self.open(from: .halfOpen, now: now, random: random)
        }
    }

    private mutating func open(from: State, now: MonotonicInstant, random: UInt64) -> Transition {
        let ceiling = Backoff(base: self.configuration.openTime, cap: self.configuration.maximumOpenTime)
            .ceiling(attempt: self.openings).nanoseconds
        let half = ceiling / 2
        let openFor = Duration.nanoseconds(half + Int64(random % UInt64(ceiling - half + 1)))
        self.openings = min(self.openings + 1, 64)
        self.failuresInARow = 0
        self.outcomes.reset()
        self.phase = .open(until: now + openFor)
        return Transition(from: from, to: .open, openFor: openFor)
    }
}

/// Counts of calls and failures over the last `length`, in ten buckets.
private struct OutcomeWindow: Sendable {
    private static let bucketCount = 10
    private struct Bucket {
        var number: Int64 = .min
        var calls = 0
        var failures = 0
    }
    private let bucketNanoseconds: Int64
    private var buckets = [Bucket](repeating: Bucket(), count: OutcomeWindow.bucketCount)

    init(length: Duration) { self.bucketNanoseconds = max(1, length.nanoseconds / Int64(OutcomeWindow.bucketCount)) }

    mutating func record(failure: Bool, now: MonotonicInstant) {
        let number = now.nanoseconds / self.bucketNanoseconds
        let index = Int(number.magnitude % UInt64(OutcomeWindow.bucketCount))
        if self.buckets[index].number != number { self.buckets[index] = Bucket(number: number) }
        self.buckets[index].calls += 1
        if failure { self.buckets[index].failures += 1 }
    }

    func totals(now: MonotonicInstant) -> (calls: Int, failures: Int) {
        let number = now.nanoseconds / self.bucketNanoseconds
        let oldest = number - Int64(OutcomeWindow.bucketCount) + 1
        var calls = 0
        var failures = 0
        for bucket in self.buckets where bucket.number >= oldest && bucket.number <= number {
            calls += bucket.calls
            failures += bucket.failures
        }
        return (calls, failures)
    }

    mutating func reset() {
        for index in self.buckets.indices { self.buckets[index] = Bucket() }
    }
}
