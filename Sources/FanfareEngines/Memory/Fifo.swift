/// A queue whose removal from the front is amortized O(1).
struct Fifo<Element: Sendable>: Sendable {
    private var storage: [Element] = []
    /// Where the oldest element is; what lies before was removed and waits for compaction.
    private var head = 0

    var count: Int { self.storage.count - self.head }
    var isEmpty: Bool { self.head == self.storage.count }
    var first: Element? { self.isEmpty ? nil : self.storage[self.head] }
    /// Oldest first.
    var elements: ArraySlice<Element> { self.storage[self.head...] }

    mutating func append(_ element: Element) { self.storage.append(element) }

    mutating func removeFirst() {
        guard !self.isEmpty else { return }
        self.head += 1
        if self.head == self.storage.count {
            self = Fifo()
        } else if self.head > 32, self.head * 2 > self.storage.count {
            self.storage.removeFirst(self.head)
            self.head = 0
        }
    }
}
