import FanfareCore
import FanfareModel
import Synchronization

/// The rules of time zones, as PostgreSQL knows them, so that all nodes go by the same. Each is asked for once a day.
///
/// Bounded by what exists: names come from preferences, and were checked before they came there.
final class TimeZones: Sendable {
    private struct Entry {
        var rules: TimeZoneRules
        var readAt: MonotonicInstant
    }

    private static let age: Duration = .seconds(86_400)
    private let entries = Mutex<[String: Entry]>([:])

    func rules(of name: String, _ session: PostgresSession) throws(PostgresError) -> TimeZoneRules {
        let now = MonotonicClock.now()
        let known = self.entries.withLock { $0[name] }
        if let known, now < known.readAt + TimeZones.age { return known.rules }
        let rules: TimeZoneRules
        do {
            rules = try session.timeZoneRules(name)
        } catch {
            // 22023: there is no such zone any more. What was known of it holds on.
            guard error.sqlState == "22023" else { throw error }
            rules = known?.rules ?? .utc
        }
        self.entries.withLock { $0[name] = Entry(rules: rules, readAt: now) }
        return rules
    }
}

extension PostgresSession {
    /// The changes of the next thirteen months: days whose offset differs from the day before, and there the quarter of an
    /// hour.
    fileprivate func timeZoneRules(_ name: String) throws(PostgresError) -> TimeZoneRules {
        func offset(_ time: String) -> String {
            "extract(epoch FROM (\(time) AT TIME ZONE $1) - (\(time) AT TIME ZONE 'UTC'))::int"
        }
        let rows = try self.query(
            """
            WITH days AS (
                SELECT d.day, \(offset("d.day")) AS before, \(offset("(d.day + interval '24 hours')")) AS after
                FROM generate_series(
                    date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - interval '48 hours',
                    now() + interval '9600 hours', interval '24 hours'
                ) d (day)
            )
            (SELECT day, before FROM days ORDER BY day LIMIT 1)
            UNION ALL
            SELECT change.time, days.after FROM days CROSS JOIN LATERAL (
                SELECT q.time FROM generate_series(
                    days.day + interval '15 minutes', days.day + interval '24 hours', interval '15 minutes') q (time)
                WHERE \(offset("q.time")) = days.after ORDER BY q.time LIMIT 1
            ) change WHERE days.before <> days.after
            """, [.text(name)])
        var changes: [TimeZoneRules.Change] = []
        for row in rows.indices {
            changes.append(.init(at: try rows.timestamp(row, 0), offset: try rows.int(row, 1)))
        }
        return TimeZoneRules(changes)
    }
}
