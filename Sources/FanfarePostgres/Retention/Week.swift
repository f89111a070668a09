/// A week of sequences. They grow with the days of PostgreSQL's clock: those of day n after 2025-01-01 UTC begin at
/// n · 2³², so that what belongs to a time is a range, and is dropped as one.
package struct Week: Sendable, Hashable, Comparable {
    /// Since 2025-01-01.
    package let number: Int64

    package static let days: Int64 = 7
    /// The sequences of a day.
    package static let day: Int64 = 1 << 32

    package init(_ number: Int64) { self.number = number }

    /// The week of a day after 2025-01-01.
    package init(day: Int64) { self.number = day / Week.days }

    /// The first sequence.
    package var lower: Int64 { self.number * Week.days * Week.day }
    /// The first sequence after it.
    package var upper: Int64 { (self.number + 1) * Week.days * Week.day }

    package static func < (left: Week, right: Week) -> Bool { left.number < right.number }

    /// SQL for the present day by PostgreSQL's clock.
    package static let today =
        "floor(extract(epoch FROM now() - timestamptz '2025-01-01 00:00:00+00') / 86400)::bigint"
}
