package import FanfareModel

/// Very many coarse timers with one clock: a hashed wheel. Adding and cancelling are O(1), a turn touches only the timers
/// of the ticks that passed.
///
/// Meant for pings and time-outs of ten thousands of connections: the driver keeps one real timer, calls `advance` at
/// each tick, and adds repeating timers anew when they fire.
package struct TimingWheel<ID: Sendable>: Sendable {
    /// Names an added timer; worthless after it fired or was cancelled, and then harmless.
    package struct Token: Hashable, Sendable {
        fileprivate let index: Int32
        fileprivate let generation: UInt32
    }

    private struct Entry {
        var id: ID?
        var tick: Int64
        var generation: UInt32
        /// Doubly linked within a slot; `next` also links the free entries.
        var previous: Int32
        var next: Int32
    }

    private static var none: Int32 { -1 }

    /// The resolution: a timer fires up to one tick late, never early.
    package let tick: Duration
    /// The most timers at a time.
    package let capacity: Int
    /// How many timers wait.
    package private(set) var count = 0

    private let tickNanoseconds: Int64
    private let mask: Int64
    private var heads: [Int32]
    private var entries: [Entry] = []
    private var free = TimingWheel.none
    /// All ticks up to this one have fired.
    private var current: Int64

    /// - Parameters:
    ///   - slots: rounded up to a power of two, 2–65 536; `tick × slots` should cover the usual delay.
    ///   - capacity: more timers than this are refused.
    package init(tick: Duration, slots: Int, capacity: Int, now: MonotonicInstant) {
        var size = 2
        while size < min(max(slots, 2), 65_536) { size <<= 1 }
        self.tickNanoseconds = max(1, tick.nanoseconds)
        self.tick = .nanoseconds(self.tickNanoseconds)
        self.capacity = min(max(capacity, 0), Int(Int32.max) - 1)
        self.mask = Int64(size - 1)
        self.heads = Array(repeating: TimingWheel.none, count: size)
        self.current = now.nanoseconds / self.tickNanoseconds
    }

    /// Adds a timer. One whose deadline has passed fires at the next tick.
    /// - Returns: nil where the wheel is full.
    package mutating func add(_ id: ID, at deadline: MonotonicInstant) -> Token? {
        guard self.count < self.capacity else { return nil }
        let (quotient, remainder) = deadline.nanoseconds.quotientAndRemainder(dividingBy: self.tickNanoseconds)
        let tick = max(remainder > 0 ? quotient + 1 : quotient, self.current + 1)
        let index: Int32
        if self.free != TimingWheel.none {
            index = self.free
            self.free = self.entries[Int(index)].next
        } else {
            index = Int32(self.entries.count)
            self.entries.append(Entry(id: nil, tick: 0, generation: 0, previous: -1, next: -1))
        }
        let slot = Int(tick & self.mask)
        let head = self.heads[slot]
        self.entries[Int(index)].id = id
        self.entries[Int(index)].tick = tick
        self.entries[Int(index)].previous = TimingWheel.none
        self.entries[Int(index)].next = head
        if head != TimingWheel.none { self.entries[Int(head)].previous = index }
        self.heads[slot] = index
        self.count += 1
        return Token(index: index, generation: self.entries[Int(index)].generation)
    }

    /// - Returns: false where the timer has fired or was cancelled before.
    @discardableResult
    package mutating func cancel(_ token: Token) -> Bool {
        let index = Int(token.index)
        guard self.entries.indices.contains(index), self.entries[index].generation == token.generation,
            self.entries[index].id != nil
        else { return false }
        self.remove(token.index)
        return true
    }

    /// Takes out the timers that are due. In order of ticks; within a tick in no particular order.
    package mutating func advance(to now: MonotonicInstant) -> [ID] {
        let target = now.nanoseconds / self.tickNanoseconds
        guard target > self.current else { return [] }
        var due: [ID] = []
        if self.count > 0 {
            // After a pause longer than the wheel every slot is visited once, and order within the pause is lost.
            let first = max(self.current + 1, target - self.mask)
            for tick in first...target {
                var index = self.heads[Int(tick & self.mask)]
                while index != TimingWheel.none {
                    let next = self.entries[Int(index)].next
                    if self.entries[Int(index)].tick <= target, let id = self.entries[Int(index)].id {
                        due.append(id)
                        self.remove(index)
                    }
                    index = next
                }
            }
        }
        self.current = target
        return due
    }

    /// When `advance` should be called next; nil while no timer waits.
    package var nextTick: MonotonicInstant? {
        self.count == 0 ? nil : MonotonicInstant(nanoseconds: (self.current + 1) * self.tickNanoseconds)
    }

    private mutating func remove(_ index: Int32) {
        let entry = self.entries[Int(index)]
        if entry.previous != TimingWheel.none {
            self.entries[Int(entry.previous)].next = entry.next
        } else {
            self.heads[Int(entry.tick & self.mask)] = entry.next
        }
        if entry.next != TimingWheel.none { self.entries[Int(entry.next)].previous = entry.previous }
        self.entries[Int(index)].id = nil
        self.entries[Int(index)].generation &+= 1
        self.entries[Int(index)].next = self.free
        self.free = index
        self.count -= 1
    }
}
