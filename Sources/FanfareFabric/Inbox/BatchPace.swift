/// How many rows a worker writes at once: as many as fit into a time, so that small events do not wait long behind a large
/// one, and a database that is slow gets less at a time. Pure.
package struct BatchPace: Sendable, Hashable {
    package let least: Int
    package let most: Int
    /// What a batch should take.
    package let target: Duration
    package private(set) var limit: Int

    package init(least: Int, most: Int, target: Duration) {
        self.least = min(least, most)
        self.most = most
        self.target = target
        self.limit = min(max(least, most / 4), most)
    }

    init(_ limits: Fanout.Limits) {
        self.init(least: limits.batchSize.lowerBound, most: limits.batchSize.upperBound, target: limits.batchTime)
    }

    /// A batch was written; one that was far from full says nothing.
    package mutating func wrote(_ rows: Int, in time: Duration) {
        guard rows >= self.limit / 2, time > .zero else { return }
        // Half or one and a half times as many at the most: one slow batch is no trend.
        let factor = min(max(self.target / time, 0.5), 1.5)
        self.limit = min(max(Int(Double(self.limit) * factor), self.least), self.most)
    }
}
