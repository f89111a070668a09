package import FanfareModel

/// The last publications of a room in memory: contiguous up to `top`, bounded by count and by bytes.
package struct HistoryTail<Body: Sendable>: Sendable {
    private struct Entry {
        var body: Body
        var bytes: Int
    }

    /// 0 keeps none.
    package let maximumCount: Int
    package let maximumBytes: Int
    /// The room's position: the offset of the newest publication, kept or not.
    package private(set) var top: StreamPosition
    /// Bytes of the bodies kept.
    package private(set) var bytes = 0

    // What was dropped at the front stays until it is half of the array: amortized O(1), and slices are contiguous.
    private var entries: [Entry?] = []
    private var start = 0

    package init(top: StreamPosition, maximumCount: Int, maximumBytes: Int) {
        self.top = top
        self.maximumCount = max(0, maximumCount)
        self.maximumBytes = max(0, maximumBytes)
    }

    package var count: Int { self.entries.count - self.start }
    package var isEmpty: Bool { self.count == 0 }
    /// The offset of the oldest one kept; `top.offset + 1` where none is.
    package var firstOffset: UInt64 { self.top.offset - UInt64(self.count) + 1 }

    /// Adds the publication after `top`, and drops old ones above the bounds; itself too where it alone is above them.
    /// - Parameter bytes: its size.
    /// - Returns: its offset.
    @discardableResult
    package mutating func append(_ body: Body, bytes: Int) -> UInt64 {
        self.top.offset += 1
        self.entries.append(Entry(body: body, bytes: max(0, bytes)))
        self.bytes += max(0, bytes)
        while self.count > self.maximumCount || (self.bytes > self.maximumBytes && self.count > 0) { self.dropFirst() }
        return self.top.offset
    }

    /// What came after `offset`, oldest first, `limit` at the most.
    /// - Returns: nil where some of it is no longer kept, or `offset` lies ahead of `top`.
    package func since(_ offset: UInt64, limit: Int = .max) -> [Body]? {
        guard offset <= self.top.offset, offset + 1 >= self.firstOffset else { return nil }
        let begin = self.start + Int(offset + 1 - self.firstOffset)
        let end = begin + min(max(0, limit), self.entries.count - begin)
        return self.entries[begin..<end].compactMap { $0?.body }
    }

    /// The last `limit` ones before `offset` (nil: up to the newest), newest first. What is no longer kept is not in it.
    package func before(_ offset: UInt64?, limit: Int = .max) -> [(offset: UInt64, body: Body)] {
        let end = min(offset ?? UInt64.max, self.top.offset + 1)
        guard end > self.firstOffset else { return [] }
        let available = Int(end - self.firstOffset)
        let count = min(max(0, limit), available)
        return (0..<count).compactMap { index in
            let position = available - 1 - index
            guard let entry = self.entries[self.start + position] else { return nil }
            return (self.firstOffset + UInt64(position), entry.body)
        }
    }

    /// Drops all publications; the position stays.
    package mutating func removeAll() {
        self.entries = []
        self.start = 0
        self.bytes = 0
    }

    /// Begins anew at another position, with nothing kept.
    package mutating func reset(to top: StreamPosition) {
        self.removeAll()
        self.top = top
    }

    private mutating func dropFirst() {
        self.bytes -= self.entries[self.start]?.bytes ?? 0
        self.entries[self.start] = nil
        self.start += 1
        if self.start > 16, self.start * 2 > self.entries.count {
            self.entries.removeFirst(self.start)
            self.start = 0
        }
    }
}

extension HistoryTail where Body == Bytes {
    @discardableResult
    package mutating func append(_ body: Bytes) -> UInt64 { self.append(body, bytes: body.count) }
}
