package import FanfareModel

/// How far a channel has been delivered, and what to do with the batch that comes next: no gap, no repeat.
package struct DeliveryCursor: Sendable, Hashable {
    package enum Outcome: Sendable, Hashable {
        /// Deliver all but the first so many, which were delivered before. The cursor has moved.
        case deliver(droppingFirst: Int)
        /// All of it was delivered before.
        case duplicate
        /// Publications are missing from this offset on, up to the batch: repair first. The cursor has not moved.
        case gap(from: UInt64)
        /// Offsets of another epoch say nothing here: read the room anew. The cursor has not moved.
        case epochChanged
    }

    package private(set) var epoch: String
    /// The offset of the last publication delivered; 0 before the first.
    package private(set) var last: UInt64

    package init(epoch: String, last: UInt64) {
        self.epoch = epoch
        self.last = last
    }

    package init(_ position: StreamPosition) { self.init(epoch: position.epoch, last: position.offset) }

    package var position: StreamPosition { StreamPosition(offset: self.last, epoch: self.epoch) }

    /// A batch of `count` publications arrived, the first at `firstOffset`. Any values are legal.
    package mutating func accept(epoch: String, firstOffset: UInt64, count: Int) -> Outcome {
        guard epoch == self.epoch else { return .epochChanged }
        guard count > 0 else { return .duplicate }
        let (end, overflow) = firstOffset.addingReportingOverflow(UInt64(count - 1))
        guard !overflow, end > self.last else { return .duplicate }
        guard firstOffset <= self.last + 1 else { return .gap(from: self.last + 1) }
        let dropped = Int(self.last + 1 - firstOffset)
        self.last = end
        return .deliver(droppingFirst: dropped)
    }

    /// Everything up to `position` is settled: delivered by a repair, or given up and told.
    package mutating func reset(to position: StreamPosition) {
        self.epoch = position.epoch
        self.last = position.offset
    }
}
