/// Where a user's inbox is read from: rows of his own, and broadcasts of streamers whom he followed when their events were
/// accepted. A row with the number of a broadcast goes before it: it says what was done with it.
///
/// What is gone is not read, even where it is still there; and of what is there only the newest entries are.
///
/// All of it is SQL for statements whose parameter $1 is the user's name. Reading costs one index probe per follow,
/// however many broadcasts there are; none where the user's shard has none.
enum InboxSource {
    /// `who`: the user and his marks, no row where he was never seen; `followed`: whom he follows or followed.
    static let user = """
        who AS MATERIALIZED (
            SELECT u.id, u.shard, i.inbox_gone AS gone, GREATEST(m.up_to, i.inbox_gone) AS up_to,
                GREATEST(m.archived_up_to, i.inbox_gone) AS archived_up_to
            FROM instance i CROSS JOIN users u LEFT JOIN read_marks m ON m.user_id = u.id WHERE u.name = $1
        ), followed AS MATERIALIZED (
            \(InboxSource.follows(of: "(SELECT id FROM who)", shard: "(SELECT shard FROM who)"))
        )
        """

    /// The follows of a user, those that ended among them, as long as the shard has broadcasts at all. In two halves, for
    /// each there is an index.
    private static func follows(of user: String, shard: String) -> String {
        ["IS NULL", "IS NOT NULL"].map { until in
            """
            SELECT streamer, since, until, notify FROM follows
            WHERE follower = \(user) AND until \(until) AND (SELECT EXISTS (SELECT FROM broadcasts WHERE shard = \(shard)))
            """
        }.joined(separator: "\nUNION ALL\n")
    }

    /// Rows of the user's own.
    /// - Parameters:
    ///   - condition: on `i`, a row of `inbox`.
    ///   - end: order and limit.
    static func rows(where condition: String, _ end: String) -> String {
        """
        SELECT i.sequence, i.event_id, i.read OR i.sequence <= (SELECT up_to FROM who) AS read,
            i.archived OR i.sequence <= (SELECT archived_up_to FROM who) AS archived
        FROM inbox i
        WHERE i.user_id = (SELECT id FROM who) AND i.sequence > (SELECT gone FROM who) AND \(condition) \(end)
        """
    }

    /// Broadcasts that the user has and that he has no row for.
    /// - Parameters:
    ///   - condition: on `b`, a row of `broadcasts`.
    ///   - end: order and limit, for those of each streamer.
    static func broadcasts(where condition: String, _ end: String = "OFFSET 0") -> String {
        // The row is looked for in a way that stays a probe per broadcast, whatever the planner takes the tables for.
        """
        SELECT b.sequence, b.event_id, b.sequence <= (SELECT up_to FROM who) AS read,
            b.sequence <= (SELECT archived_up_to FROM who) AS archived
        FROM followed f CROSS JOIN LATERAL (
            SELECT b.sequence, b.event_id FROM broadcasts b
            WHERE b.shard = (SELECT shard FROM who) AND b.streamer = f.streamer AND \(InboxSource.isMeant)
                AND b.sequence > (SELECT gone FROM who) AND \(condition) AND (
                    SELECT o.sequence FROM inbox o WHERE o.user_id = (SELECT id FROM who) AND o.sequence = b.sequence
                ) IS NULL
            \(end)
        ) b
        """
    }

    /// A page of both, in one order.
    /// - Parameters:
    ///   - condition: on the named one of `inbox` and `broadcasts`.
    ///   - limit: how many.
    static func page(
        _ order: String, where condition: (String) -> String, rows: String = "true", broadcasts: String = "true",
        limit: String = "$3"
    ) -> String {
        """
        SELECT * FROM (
            (\(InboxSource.rows(where: "\(condition("i")) AND \(rows)", "\(order) LIMIT \(limit)")))
            UNION ALL
            (\(InboxSource.broadcasts(where: "\(condition("b")) AND \(broadcasts)", "\(order) LIMIT \(limit)")))
        ) both_kinds \(order) LIMIT \(limit)
        """
    }

    /// `bound`: the sequence up to which entries are too many, for those behind it are `limit`.
    static func bound(_ limit: Int) -> String {
        """
        bound AS MATERIALIZED (
            SELECT COALESCE((
                SELECT sequence FROM (
                    \(InboxSource.page("ORDER BY sequence DESC", where: { _ in "true" }, limit: "\(limit + 1)"))
                ) newest ORDER BY sequence DESC OFFSET \(limit) LIMIT 1
            ), gone) AS sequence FROM who
        )
        """
    }

    /// The same for a page, found from its oldest entry where that is near the newest.
    static func boundOf(page: String, _ limit: Int) -> String {
        let isAsNew = { (kind: String) in "\(kind).sequence >= (SELECT min(sequence) FROM \(page))" }
        return """
            (SELECT CASE WHEN (
                SELECT count(*) FROM (
                    SELECT FROM inbox i WHERE i.user_id = (SELECT id FROM who) AND \(isAsNew("i")) LIMIT \(limit + 1)
                ) own
            ) + (
                SELECT count(*) FROM (\(InboxSource.broadcasts(where: isAsNew("b")))) heard
            ) <= \(limit) THEN 0 ELSE (SELECT sequence FROM bound) END)
            """
    }

    /// Always counted, never kept: there is nothing that could drift. All above the mark are looked at, but not more than
    /// `limit` of the newest: both kinds together only where each alone does not tell.
    static func unread(_ limit: Int) -> String {
        let isAbove = { (kind: String) in "\(kind).sequence > (SELECT up_to FROM who)" }
        return """
            (SELECT CASE WHEN own.count + heard.count <= \(limit) THEN own.unread + heard.count ELSE (
                SELECT count(*) FILTER (WHERE NOT read) FROM (
                    \(InboxSource.page("ORDER BY sequence DESC", where: isAbove, limit: "\(limit)"))
                ) newest
            ) END
            FROM (
                SELECT count(*), count(*) FILTER (WHERE NOT read) AS unread FROM (
                    SELECT i.read FROM inbox i WHERE i.user_id = (SELECT id FROM who) AND \(isAbove("i"))
                    ORDER BY i.sequence DESC LIMIT \(limit + 1)
                ) own_rows
            ) own, (SELECT count(*) FROM (\(InboxSource.broadcasts(where: isAbove("b")))) heard_ones) heard)
            """
    }

    /// The highest sequence up to `bound`; where there is none, that up to which entries are gone.
    static func top(upTo bound: String? = nil) -> String {
        let (own, heard) = (
            bound.map { "AND sequence <= \($0)" } ?? "", bound.map { "AND b.sequence <= \($0)" } ?? ""
        )
        return """
            GREATEST(0, (SELECT gone FROM who), (
                SELECT sequence FROM inbox WHERE user_id = (SELECT id FROM who) \(own) ORDER BY sequence DESC LIMIT 1
            ), (
                SELECT max(b.sequence) FROM followed f CROSS JOIN LATERAL (
                    SELECT b.sequence FROM broadcasts b
                    WHERE b.shard = (SELECT shard FROM who) AND b.streamer = f.streamer AND \(InboxSource.isMeant) \(heard)
                    ORDER BY b.sequence DESC LIMIT 1
                ) b
            ))
            """
    }

    /// The name, the highest sequence below the user's bound in $2, and the version of the preferences of each of the users $1
    /// who has either.
    static let tops = """
        SELECT u.name, COALESCE(GREATEST(own.sequence, heard.sequence), 0), COALESCE(p.version, 0)
        FROM unnest($1, $2) AS asked (name, bound) JOIN users u ON u.name = asked.name
        LEFT JOIN preferences p ON p.user_id = u.id
        LEFT JOIN LATERAL (
            SELECT sequence FROM inbox
            WHERE user_id = u.id AND sequence > (SELECT inbox_gone FROM instance) AND sequence < asked.bound
            ORDER BY sequence DESC LIMIT 1
        ) own ON true
        CROSS JOIN LATERAL (
            SELECT max(b.sequence) AS sequence
            FROM (\(InboxSource.follows(of: "u.id", shard: "u.shard"))) f CROSS JOIN LATERAL (
                SELECT b.sequence FROM broadcasts b
                WHERE b.shard = u.shard AND b.streamer = f.streamer AND \(InboxSource.isMeant)
                    AND b.sequence > COALESCE(own.sequence, (SELECT inbox_gone FROM instance))
                    AND b.sequence < asked.bound
                ORDER BY b.sequence DESC LIMIT 1
            ) b
        ) heard
        WHERE num_nonnulls(own.sequence, heard.sequence, p.version) > 0
        """

    /// Whether the broadcast `b` is for who has the follow `f`: the same as a fan-out asks.
    private static let isMeant =
        "b.event_id > f.since AND (f.until IS NULL OR b.event_id <= f.until) AND f.notify <= b.reach"
}
