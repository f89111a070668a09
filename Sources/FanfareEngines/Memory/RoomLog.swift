import FanfareModel

/// The last bodies of one room, oldest first.
struct RoomLog: Sendable {
    private var kept = Fifo<Bytes>()
    /// Bytes of the kept bodies.
    private(set) var bytes = 0

    var count: Int { self.kept.count }
    var isEmpty: Bool { self.kept.isEmpty }

    mutating func append(_ body: Bytes) {
        self.kept.append(body)
        self.bytes += body.count
    }

    /// Removes the oldest until neither bound is exceeded.
    mutating func trim(count: Int, bytes: Int) {
        while let oldest = self.kept.first, self.count > max(0, count) || self.bytes > max(0, bytes) {
            self.bytes -= oldest.count
            self.kept.popFirst()
        }
    }

    mutating func removeAll() { self = RoomLog() }

    /// - Parameter skip: how many of the oldest to leave out.
    func bodies(skip: Int = 0, limit: Int = .max) -> [Bytes] {
        Array(self.kept.elements.dropFirst(max(0, skip)).prefix(max(0, limit)))
    }
}
