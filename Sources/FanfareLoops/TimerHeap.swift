package import FanfareModel

/// A call that waits in a `TimerHeap`. Guarded by whatever guards the heap.
package final class LoopTimer {
    package let deadline: MonotonicInstant
    /// Those of one deadline run in the order in which they were scheduled.
    fileprivate let number: UInt64
    /// Where it stands in the heap; nil when it is not in it.
    fileprivate var index: Int?
    fileprivate var body: (@Sendable () -> Void)?

    fileprivate init(deadline: MonotonicInstant, number: UInt64, body: @escaping @Sendable () -> Void) {
        self.deadline = deadline
        self.number = number
        self.body = body
    }

    fileprivate func isBefore(_ other: LoopTimer) -> Bool {
        (self.deadline, self.number) < (other.deadline, other.number)
    }
}

/// A binary heap whose elements know their places, so that cancelling removes at once instead of leaving corpses that
/// hold memory until their time comes.
package struct TimerHeap {
    private var timers: [LoopTimer] = []
    private var nextNumber: UInt64 = 0

    package init() {}

    package var count: Int { self.timers.count }
    package var earliest: MonotonicInstant? { self.timers.first?.deadline }

    /// - Complexity: O(log n).
    package mutating func insert(at deadline: MonotonicInstant, _ body: @escaping @Sendable () -> Void) -> LoopTimer {
        let timer = LoopTimer(deadline: deadline, number: self.nextNumber, body: body)
        self.nextNumber += 1
        self.timers.append(timer)
        timer.index = self.timers.count - 1
        self.siftUp(self.timers.count - 1)
        return timer
    }

    /// Returns what the timer would have run, so that the caller can let go of it outside its lock; nil where the timer
    /// has run or was cancelled before.
    /// - Complexity: O(log n).
    package mutating func cancel(_ timer: LoopTimer) -> (@Sendable () -> Void)? {
        guard let index = timer.index else { return nil }
        self.remove(at: index)
        return timer.body.take()
    }

    /// Takes the first call that is due at `now`.
    /// - Complexity: O(log n).
    package mutating func popDue(at now: MonotonicInstant) -> (@Sendable () -> Void)? {
        guard let first = self.timers.first, first.deadline <= now else { return nil }
        self.remove(at: 0)
        return first.body.take()
    }

    /// Empties the heap and returns the calls that will not happen.
    package mutating func removeAll() -> [@Sendable () -> Void] {
        let bodies = self.timers.compactMap { timer in
            timer.index = nil
            return timer.body.take()
        }
        self.timers = []
        return bodies
    }

    private mutating func remove(at index: Int) {
        let removed = self.timers[index]
        let last = self.timers.removeLast()
        removed.index = nil
        guard last !== removed else { return }
        self.timers[index] = last
        last.index = index
        self.siftDown(index)
        self.siftUp(index)
    }

    private mutating func siftUp(_ start: Int) {
        var index = start
        while index > 0 {
            let parent = (index - 1) / 2
            guard self.timers[index].isBefore(self.timers[parent]) else { return }
            self.swap(index, parent)
            index = parent
        }
    }

    private mutating func siftDown(_ start: Int) {
        var index = start
        while true {
            let left = 2 * index + 1
            guard left < self.timers.count else { return }
            let right = left + 1
            let child =
                right < self.timers.count && self.timers[right].isBefore(self.timers[left]) ? right : left
            guard self.timers[child].isBefore(self.timers[index]) else { return }
            self.swap(index, child)
            index = child
        }
    }

    private mutating func swap(_ left: Int, _ right: Int) {
        self.timers.swapAt(left, right)
        self.timers[left].index = left
        self.timers[right].index = right
    }
}
