/// A queue whose removal from the front is amortized O(1).
package struct Fifo<Element> {
    @usableFromInline var storage: [Element] = []
    /// Where the oldest element is; what lies before was removed and waits for compaction.
    @usableFromInline var head = 0

    @inlinable package init() {}

    @inlinable package var count: Int { self.storage.count - self.head }
    @inlinable package var isEmpty: Bool { self.head == self.storage.count }
    @inlinable package var first: Element? { self.isEmpty ? nil : self.storage[self.head] }
    /// Oldest first.
    @inlinable package var elements: ArraySlice<Element> { self.storage[self.head...] }

    @inlinable package mutating func append(_ element: Element) { self.storage.append(element) }

    /// Removes the oldest.
    @discardableResult
    @inlinable package mutating func popFirst() -> Element? {
        guard !self.isEmpty else { return nil }
        let first = self.storage[self.head]
        self.head += 1
        if self.head == self.storage.count {
            self.storage.removeAll(keepingCapacity: self.storage.capacity <= 64)
            self.head = 0
        } else if self.head > 32, self.head * 2 > self.storage.count {
            self.storage.removeFirst(self.head)
            self.head = 0
        }
        return first
    }

    /// Removes the newest.
    @inlinable package mutating func popLast() -> Element? { self.isEmpty ? nil : self.storage.removeLast() }
}

extension Fifo: Sendable where Element: Sendable {}
