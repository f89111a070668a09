/// Which partitions to make and which to drop. Pure.
package struct PartitionPlan: Sendable, Hashable {
    package struct Partition: Sendable, Hashable {
        package var name: String
        /// The first sequence after it; nil for the one that takes what no other takes.
        package var upper: Int64?
        /// As the engine estimates them.
        package var rows: Int64

        package init(name: String, upper: Int64?, rows: Int64) {
            self.name = name
            self.upper = upper
            self.rows = rows
        }
    }

    package struct Limits: Sendable, Hashable {
        /// Entries older than this go, a week at a time. At least 1.
        package var days: Int64
        /// Above so many rows the oldest weeks go, but never the present one; nil for no limit.
        package var rows: Int64?
        /// Weeks made before they begin.
        package var weeksAhead: Int64

        package init(days: Int64 = 90, rows: Int64? = nil, weeksAhead: Int64 = 3) {
            self.days = days
            self.rows = rows
            self.weeksAhead = weeksAhead
        }
    }

    /// Ascending, without a gap, above all that are there.
    package var create: [Week] = []
    /// Ascending.
    package var drop: [Partition] = []

    /// - Parameters:
    ///   - today: days since 2025-01-01.
    ///   - defaultTop: the highest sequence in the partition that takes what no other takes: no week can be made that has
    ///     it.
    package init(_ partitions: [Partition], today: Int64, defaultTop: Int64?, _ limits: Limits) {
        let present = Week(day: today)
        let ranged = partitions.filter { $0.upper != nil }.sorted { ($0.upper ?? 0) < ($1.upper ?? 0) }
        let top = max(ranged.last?.upper ?? 0, defaultTop.map { $0 + 1 } ?? 0)
        var week = present
        while week.lower < top { week = Week(week.number + 1) }
        while week.number <= present.number + max(0, limits.weeksAhead) {
            self.create.append(week)
            week = Week(week.number + 1)
        }
        let expired = (today - max(1, limits.days)) * Week.day
        var rows = partitions.reduce(0) { $0 + max(0, $1.rows) }
        for partition in ranged {
            guard let upper = partition.upper, upper <= present.lower else { break }
            let isTooMuch = limits.rows.map { rows > $0 } ?? false
            guard upper <= expired || isTooMuch else { break }
            self.drop.append(partition)
            rows -= max(0, partition.rows)
        }
    }
}
