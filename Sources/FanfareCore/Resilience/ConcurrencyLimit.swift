package import FanfareModel

/// How much bulk work may be under way at once, so that those who wait for answers do not feel it: additive increase
/// while answers come soon enough, decrease in proportion while they do not.
///
/// The limit may fall below one: then the work rests after each piece, so that it takes that share of the time.
package struct ConcurrencyLimit: Sendable {
    package struct Configuration: Sendable, Hashable {
        /// Pieces of work at once where nothing is slow. At least 1.
        package var maximum: Double
        /// The share of the time that is always left to the work, 0.01–1, so that it never starves.
        package var minimum: Double
        /// Answers within this time are soon enough, whatever they take otherwise.
        package var target: Duration
        /// Answers are late above so many times what they take otherwise. At least 1.
        package var tolerance: Double
        /// How long answers are gathered before the limit moves; up to four times as long where there are few.
        package var window: Duration
        /// Answers of one window from which on it is not prolonged.
        package var samples: Int
        /// How fast what is usual follows what has become slower for good.
        package var memory: Duration
        /// The longest rest after one piece of work.
        package var maximumRest: Duration

        package init(
            maximum: Double = 3, minimum: Double = 0.1, target: Duration = .milliseconds(50), tolerance: Double = 3,
            window: Duration = .milliseconds(250), samples: Int = 10, memory: Duration = .seconds(300),
            maximumRest: Duration = .seconds(2)
        ) {
            self.maximum = max(1, maximum)
            self.minimum = min(max(minimum, 0.01), 1)
            self.target = max(target, .milliseconds(1))
            self.tolerance = max(1, tolerance)
            self.window = max(window, .milliseconds(10))
            self.samples = max(1, samples)
            self.memory = max(memory, .seconds(1))
            self.maximumRest = max(maximumRest, .zero)
        }
    }

    package enum Move: Sendable, Hashable {
        case decreased
        case increased
        case stayed
    }

    /// What one kind of answer usually takes.
    private struct Usual: Sendable {
        var nanoseconds: Double
        var updated: MonotonicInstant
    }

    /// Kinds of answers that are told apart; further ones count as one.
    private static let kindLimit = 64
    /// Answers of one window that are looked at.
    private static let sampleLimit = 1024

    package let configuration: Configuration
    /// From the configuration's minimum to its maximum.
    package private(set) var limit: Double
    package private(set) var underWay = 0
    private var restUntil: MonotonicInstant
    private var usual: [String: Usual] = [:]
    /// How late each answer of the window was: 1 is the time from which on it is late.
    private var lateness: [Double] = []
    private var windowBegan: MonotonicInstant?

    package init(_ configuration: Configuration, now: MonotonicInstant) {
        self.configuration = configuration
        self.limit = configuration.maximum
        self.restUntil = now
    }

    // MARK: The work

    /// A piece of work wants to begin.
    /// - Returns: whether it may; then `finished` has to follow.
    package mutating func admit(now: MonotonicInstant) -> Bool {
        guard self.underWay < max(1, Int(self.limit)), now >= self.restUntil else { return false }
        self.underWay += 1
        return true
    }

    /// A piece of work ended, well or not, after so long.
    package mutating func finished(after worked: Duration, now: MonotonicInstant) {
        self.underWay = max(0, self.underWay - 1)
        guard self.limit < 1 else { return }
        let rest = Double(max(0, worked.nanoseconds)) * (1 / self.limit - 1)
        let bounded = Duration.nanoseconds(Int64(min(rest, Double(self.configuration.maximumRest.nanoseconds))))
        self.restUntil = max(self.restUntil, now + bounded)
    }

    // MARK: The answers

    /// An answer that somebody waited for, of this kind, took so long; its wait for a connection included.
    @discardableResult
    package mutating func answered(_ kind: String, after latency: Duration, now: MonotonicInstant) -> Move {
        let taken = Double(max(0, latency.nanoseconds))
        let late = max(
            Double(self.configuration.target.nanoseconds), self.configuration.tolerance * self.usual(kind, taken, now))
        if self.lateness.count < Self.sampleLimit { self.lateness.append(taken / late) }
        let began = self.windowBegan ?? now
        self.windowBegan = began
        return self.judge(began, now)
    }

    /// Time has passed: a window that few answers came in ends too, and where none came nothing is slow.
    @discardableResult
    package mutating func passed(now: MonotonicInstant) -> Move {
        guard let began = self.windowBegan else {
            self.windowBegan = now
            return .stayed
        }
        return self.judge(began, now)
    }

    private mutating func judge(_ began: MonotonicInstant, _ now: MonotonicInstant) -> Move {
        let isFull = now - began >= self.configuration.window && self.lateness.count >= self.configuration.samples
        guard isFull || now - began >= self.configuration.window * 4 else { return .stayed }
        self.windowBegan = now
        defer { self.lateness.removeAll(keepingCapacity: true) }
        let before = self.limit
        if let late = self.upperTenth, late > 1 {
            // Half at the most, so that one burst does not stop the work.
            self.limit = max(self.configuration.minimum, before * min(max(1 / late, 0.5), 0.9))
        } else {
            let step = max(self.configuration.maximum * 0.05, before * 0.1)
            self.limit = min(self.configuration.maximum, before + step)
        }
        return self.limit < before ? .decreased : self.limit > before ? .increased : .stayed
    }

    /// What nine answers of ten stayed below; nil without answers.
    private var upperTenth: Double? {
        guard !self.lateness.isEmpty else { return nil }
        let sorted = self.lateness.sorted()
        return sorted[min(sorted.count - 1, sorted.count * 9 / 10)]
    }

    /// Follows what is faster at once, and what is slower by and by: an overload is not what is usual.
    /// - Returns: nanoseconds.
    private mutating func usual(_ kind: String, _ taken: Double, _ now: MonotonicInstant) -> Double {
        let kind = self.usual[kind] != nil || self.usual.count < Self.kindLimit ? kind : ""
        guard var known = self.usual[kind] else {
            // The first one may be slow already: what is late is told by the target until more is known.
            let first = min(taken, Double(self.configuration.target.nanoseconds) / self.configuration.tolerance)
            self.usual[kind] = Usual(nanoseconds: first, updated: now)
            return first
        }
        if taken < known.nanoseconds {
            known.nanoseconds += (taken - known.nanoseconds) * 0.1
        } else {
            let elapsed = max(0, (now - known.updated).secondsAsDouble)
            known.nanoseconds +=
                (taken - known.nanoseconds) * min(0.05, elapsed / self.configuration.memory.secondsAsDouble)
        }
        known.updated = now
        self.usual[kind] = known
        return known.nanoseconds
    }
}
