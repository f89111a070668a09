package import FanfareModel

/// How far one time zone's clocks are from UTC, and when that changes, as far ahead as it is known.
package struct TimeZoneRules: Sendable, Hashable {
    package struct Change: Sendable, Hashable {
        package var at: Timestamp
        /// Seconds east of UTC from then on.
        package var offset: Int

        package init(at: Timestamp, offset: Int) {
            self.at = at
            self.offset = offset
        }
    }

    /// Ascending. The first offset holds before it, too, the last one for good.
    private let changes: [Change]

    package init(_ changes: [Change]) { self.changes = changes.sorted { $0.at < $1.at } }

    package static let utc = TimeZoneRules([])

    /// - Returns: seconds east of UTC.
    package func offset(at time: Timestamp) -> Int {
        (self.changes.last { $0.at <= time } ?? self.changes.first)?.offset ?? 0
    }

    package func nextChange(after time: Timestamp) -> Timestamp? { self.changes.dropFirst().first { $0.at > time }?.at }
}
