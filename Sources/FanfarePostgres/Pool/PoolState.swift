import FanfareCore
package import FanfareEngines
package import FanfareModel

/// Which places of a pool are free, who waits for one, and whether the database may be asked at all: a value without
/// clock and threads.
package struct PoolState<Waiter: Sendable>: Sendable {
    private struct Waiting {
        let waiter: Waiter
        let deadline: MonotonicInstant
    }

    package enum Acquisition {
        case place(Int)
        case wait
        case refuse(EngineError)
    }

    package let size: Int
    private let queueLimit: Int
    private let queueTime: Duration
    /// The last one was used last: it is the one most surely connected.
    private var free: [Int]
    private var queue: [Waiting] = []
    package private(set) var isStopped = false

    package init(size: Int, queueLimit: Int, queueTime: Duration) {
        self.size = max(1, size)
        self.queueLimit = max(0, queueLimit)
        self.queueTime = queueTime
        self.free = Array((0..<max(1, size)).reversed())
    }

    package var inUse: Int { self.size - self.free.count }
    package var waiting: Int { self.queue.count }

    /// A caller wants a place. `.wait`: `waiter` is in the queue now.
    package mutating func acquire(_ waiter: @autoclosure () -> Waiter, now: MonotonicInstant) -> Acquisition {
        if self.isStopped { return .refuse(Self.stopped) }
        if let place = self.free.popLast() { return .place(place) }
        guard self.queue.count < self.queueLimit else {
            return .refuse(
                EngineError(
                    .overloaded, "\(self.queue.count) callers wait for a database connection already",
                    retryAfter: self.queueTime))
        }
        self.queue.append(Waiting(waiter: waiter(), deadline: now + self.queueTime))
        return .wait
    }

    /// The place that was free for the longest, to try its connection.
    package mutating func acquireIdlest() -> Int? {
        guard !self.isStopped, !self.free.isEmpty else { return nil }
        return self.free.removeFirst()
    }

    /// - Returns: who gets the place now.
    package mutating func release(_ place: Int) -> Waiter? {
        guard !self.queue.isEmpty else {
            self.free.append(place)
            return nil
        }
        return self.queue.removeFirst().waiter
    }

    /// Those who have waited too long.
    package mutating func expire(now: MonotonicInstant) -> [Waiter] {
        let expired = self.queue.prefix { $0.deadline <= now }
        self.queue.removeFirst(expired.count)
        return expired.map(\.waiter)
    }

    /// No more places are given.
    /// - Returns: those who wait in vain.
    package mutating func stop() -> [Waiter] {
        self.isStopped = true
        defer { self.queue.removeAll() }
        return self.queue.map(\.waiter)
    }

    package static var stopped: EngineError { EngineError(.unavailable, "the store was stopped") }
}
