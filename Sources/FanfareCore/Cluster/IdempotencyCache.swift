package import FanfareModel

/// Remembers the first result of each key for a while, so that a retry gets it again.
///
/// Bounded: when full, the oldest key goes, which is the next to expire. Use does not prolong a key's time.
package struct IdempotencyCache<Value: Sendable>: Sendable {
    private struct Entry {
        var value: Value
        var expires: MonotonicInstant
        /// Tells the entry from a later one of the same key in `order`.
        var number: UInt64
    }

    package let capacity: Int
    package let window: Duration
    private var entries: [String: Entry] = [:]
    private var order: [(key: String, number: UInt64)] = []
    private var start = 0
    private var nextNumber: UInt64 = 0

    package init(capacity: Int, window: Duration) {
        self.capacity = max(0, capacity)
        self.window = window
    }

    package var count: Int { self.entries.count }

    package func value(for key: String, now: MonotonicInstant) -> Value? {
        guard let entry = self.entries[key], now < entry.expires else { return nil }
        return entry.value
    }

    /// Remembers `value`, unless the key has a value that has not expired: the first result stays.
    /// - Returns: the value that is remembered now.
    @discardableResult
    package mutating func insert(_ value: Value, for key: String, now: MonotonicInstant) -> Value {
        if let present = self.value(for: key, now: now) { return present }
        self.removeExpired(now: now)
        guard self.capacity > 0 else { return value }
        while self.entries.count >= self.capacity, self.removeOldest() {}
        self.entries[key] = Entry(value: value, expires: now + self.window, number: self.nextNumber)
        self.order.append((key, self.nextNumber))
        self.nextNumber += 1
        // `remove` leaves its key's place in the order behind.
        if self.order.count - self.start > 2 * self.capacity + 32 {
            self.order = self.order[self.start...].filter { self.entries[$0.key]?.number == $0.number }
            self.start = 0
        }
        return value
    }

    /// Forgets a key: what was remembered turned out not to have happened.
    package mutating func remove(_ key: String) { self.entries[key] = nil }

    package mutating func removeExpired(now: MonotonicInstant) {
        while self.start < self.order.count {
            let (key, number) = self.order[self.start]
            if let entry = self.entries[key], entry.number == number, now < entry.expires { return }
            _ = self.removeOldest()
        }
    }

    private mutating func removeOldest() -> Bool {
        guard self.start < self.order.count else { return false }
        let (key, number) = self.order[self.start]
        if self.entries[key]?.number == number { self.entries[key] = nil }
        self.start += 1
        if self.start > 32, self.start * 2 > self.order.count {
            self.order.removeFirst(self.start)
            self.start = 0
        }
        return true
    }
}
