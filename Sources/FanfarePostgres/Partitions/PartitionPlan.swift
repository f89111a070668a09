import FanfareModel

/// A range of a log's ids, and how far it is from being made to being dropped.
package struct LogPartition: Sendable, Hashable {
    package var number: Int64
    package var first: Int64
    /// The first id after it.
    package var end: Int64
    /// Milliseconds since ids were first given from it; nil where it was made ahead.
    package var openFor: Int64?
    /// Milliseconds since ids are given from the next one.
    package var endedFor: Int64?
    /// Who may still write in it is known.
    package var hasWriters = false
    /// Nobody can write in it any more.
    package var isClosed = false
    /// Nothing will refer to what is in it that does not already.
    package var isSettled = false

    package init(number: Int64, first: Int64, end: Int64) {
        self.number = number
        self.first = first
        self.end = end
    }
}

/// What a log's partitions need next. Pure: ids move on to the next range as time passes by the engine's clock, but always
/// upward, so that a clock that jumps changes when that happens and nothing else.
package struct PartitionPlan: Sendable, Hashable {
    package enum Step: Sendable, Hashable {
        /// A range above all that are there.
        case make(number: Int64, first: Int64, end: Int64)
        /// From now on ids are given from it.
        case open(LogPartition)
        /// Find out who may still write in it.
        case findWriters(LogPartition)
        /// Where those are gone: what is in it is final.
        case close(LogPartition)
        /// Where nothing can refer to it anew.
        case settle(LogPartition)
        /// It is too old.
        case retire(LogPartition)
    }

    /// Ids of a partition: more than can be given before the next one is begun.
    package static let range: Int64 = 1 << 32

    /// Ascending.
    package var steps: [Step] = []

    /// - Parameters:
    ///   - partitions: those that are not retired, ascending.
    ///   - top: the highest id that was given.
    ///   - period: how long ids are given from one.
    ///   - retention: how long what is in one is kept after that; nil: for ever.
    package init(_ partitions: [LogPartition], top: Int64, period: Duration, retention: Duration?) {
        guard let last = partitions.last, let open = partitions.last(where: { $0.openFor != nil }) else { return }
        let ahead = partitions.first { $0.number > open.number }
        if ahead == nil || top >= last.first {
            self.steps.append(.make(number: last.end >> 32, first: last.end, end: last.end + PartitionPlan.range))
        }
        if let ahead, top >= ahead.first || (open.openFor ?? 0) >= max(1, period.milliseconds) {
            self.steps.append(.open(ahead))
        }
        var areClosedBefore = true
        for partition in partitions {
            guard let ended = partition.endedFor else { break }
            if !partition.hasWriters {
                self.steps.append(.findWriters(partition))
            } else if !partition.isClosed, areClosedBefore {
                self.steps.append(.close(partition))
            } else if partition.isClosed, !partition.isSettled {
                self.steps.append(.settle(partition))
            }
            areClosedBefore = areClosedBefore && partition.isClosed
            // Only the oldest. Its time is of the engine's clock, which may have been set back: then it is kept longer.
            if let retention, partition == partitions.first, partition.isSettled, ended >= retention.milliseconds {
                self.steps.append(.retire(partition))
            }
        }
    }

    /// How long ids are given from one partition, where that is not set: what is kept lies in a few, so that statements that
    /// look into all of them stay cheap.
    package static func period(for retention: Duration?) -> Duration {
        guard let retention else { return .seconds(30 * 86_400) }
        return max(.seconds(1), min(.seconds(30 * 86_400), retention / 6))
    }
}
