package import FanfareModel

/// Counts what happened within the last `window`, up to a limit: bounds what others must remember for that long.
package struct WindowCount: Sendable {
    /// What happened is forgotten in portions of this part of the window, up to one portion late.
    private static let portions = 64

    package let limit: Int
    package let window: Duration
    private let portion: Int64
    private var counts = [Int](repeating: 0, count: WindowCount.portions + 1)
    private var current: Int64
    /// What happened within the window.
    package private(set) var total = 0

    /// - Parameter limit: 0 admits nothing.
    package init(limit: Int, window: Duration, now: MonotonicInstant) {
        self.limit = max(0, limit)
        self.window = window
        self.portion = max(1, window.nanoseconds / Int64(WindowCount.portions))
        self.current = now.nanoseconds / self.portion
    }

    /// One that was counted, for taking it back.
    package struct Admission: Sendable {
        fileprivate let portion: Int64
    }

    /// Counts one more, unless as many as `limit` are counted.
    /// - Returns: nil where it was not counted.
    package mutating func admit(now: MonotonicInstant) -> Admission? {
        self.forget(now: now)
        guard self.total < self.limit else { return nil }
        self.counts[self.index(of: self.current)] += 1
        self.total += 1
        return Admission(portion: self.current)
    }

    /// It did not happen after all: what was counted makes room, once.
    package mutating func takeBack(_ admission: Admission) {
        guard self.current - admission.portion < Int64(self.counts.count) else { return }
        self.counts[self.index(of: admission.portion)] -= 1
        self.total -= 1
    }

    private mutating func forget(now: MonotonicInstant) {
        let target = now.nanoseconds / self.portion
        guard target > self.current else { return }
        for portion in max(self.current + 1, target - Int64(self.counts.count) + 1)...target {
            let index = self.index(of: portion)
            self.total -= self.counts[index]
            self.counts[index] = 0
        }
        self.current = target
    }

    private func index(of portion: Int64) -> Int { Int(portion % Int64(self.counts.count)) }
}
