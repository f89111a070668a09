package import FanfareEngines
package import FanfareModel

extension PostgresStore {
    package func mark(_ user: UserID, _ mark: InboxMark, _ which: InboxSelection) async throws(FanfareError)
        -> MarkResult
    {
        let most = self.configuration.inboxLimit
        return try await self.request("mark_\(mark.rawValue)") { session in
            let ids = try session.userIDs([user])
            guard let id = ids[user] else { return MarkResult(unread: 0, changed: 0) }
            // One at a time per user, so that each sees what the one before changed. A fan-out that commits meanwhile
            // only adds entries above all that are there: a shard's numbers grow in the order of commits.
            try session.query("INSERT INTO read_marks (user_id) VALUES ($1) ON CONFLICT DO NOTHING", [.int8(id)])
            try session.query("SELECT FROM read_marks WHERE user_id = $1 FOR UPDATE", [.int8(id)])
            let changed =
                switch which {
                case .sequences(let sequences): try session.mark(mark, user, id, sequences, most)
                case .upTo(let sequence): try session.mark(mark, user, id, upTo: sequence, most)
                }
            let unread = try session.query(
                "WITH \(InboxSource.user) SELECT \(InboxSource.unread(most))", [.text(user.rawValue)])
            return MarkResult(unread: try unread.int(0, 0), changed: changed)
        }
    }
}

extension InboxMark {
    /// What sets the mark on rows, where the mark up to a sequence is, and which rows have it not.
    fileprivate var sql: (set: String, upTo: String, isNotSet: String) {
        switch self {
        case .read: ("read = true", "up_to", "NOT read")
        // What is put away is not unread.
        case .archived: ("read = true, archived = true", "archived_up_to", "NOT archived")
        }
    }
}

extension PostgresSession {
    /// - Returns: how many entries changed.
    fileprivate func mark(
        _ mark: InboxMark, _ user: UserID, _ id: Int64, _ sequences: [UInt64], _ most: Int
    ) throws(PostgresError) -> Int {
        let (set, upTo, isNotSet) = mark.sql
        let parameters: [PostgresValue] = [.text(user.rawValue), .int8s(sequences.map(Int64.init(clamping:)))]
        let rows = try self.query(
            """
            WITH \(InboxSource.user), \(InboxSource.bound(most))
            UPDATE inbox SET \(set)
            WHERE user_id = (SELECT id FROM who) AND sequence = ANY($2) AND \(isNotSet)
                AND sequence > GREATEST((SELECT \(upTo) FROM who), (SELECT sequence FROM bound))
            """, parameters
        ).affected
        // Of a broadcast there is no row until one has something to say.
        let heard = InboxSource.broadcasts(
            where: """
                b.sequence = ANY($2)
                AND b.sequence > GREATEST((SELECT \(upTo) FROM who), (SELECT sequence FROM bound))
                """)
        let broadcasts = try self.query(
            """
            WITH \(InboxSource.user), \(InboxSource.bound(most))
            INSERT INTO inbox (user_id, sequence, event_id, read, archived)
            SELECT (SELECT id FROM who), sequence, event_id, true, \(mark == .archived) FROM (\(heard)) heard
            ON CONFLICT DO NOTHING
            """, parameters
        ).affected
        return rows + broadcasts
    }

    /// - Returns: how many entries changed.
    fileprivate func mark(
        _ mark: InboxMark, _ user: UserID, _ id: Int64, upTo sequence: UInt64, _ most: Int
    ) throws(PostgresError) -> Int {
        let (_, upTo, isNotSet) = mark.sql
        // Not above what is there now: what comes later is new.
        let counted = try self.query(
            """
            WITH \(InboxSource.user), \(InboxSource.bound(most)),
                last AS MATERIALIZED (SELECT \(InboxSource.top(upTo: "$2")) AS sequence),
                before AS MATERIALIZED (
                    SELECT GREATEST((SELECT \(upTo) FROM who), (SELECT sequence FROM bound)) AS sequence
                )
            SELECT (SELECT sequence FROM last), (
                SELECT count(*) FROM inbox
                WHERE user_id = (SELECT id FROM who) AND sequence > (SELECT sequence FROM before)
                    AND sequence <= (SELECT sequence FROM last) AND \(isNotSet)
            ) + (
                SELECT count(*) FROM (
                    \(InboxSource.broadcasts(
                        where: """
                            b.sequence > (SELECT sequence FROM before) AND b.sequence <= (SELECT sequence FROM last)
                            """))
                ) heard
            )
            """, [.text(user.rawValue), .int8(sequence)])
        let bound = try counted.int64(0, 0)
        let marks = mark == .read ? [upTo] : [upTo, InboxMark.read.sql.upTo]
        try self.query(
            """
            UPDATE read_marks SET \(marks.map { "\($0) = GREATEST(\($0), $2)" }.joined(separator: ", "))
            WHERE user_id = $1 AND \(upTo) < $2
            """, [.int8(id), .int8(bound)])
        return try counted.int(0, 1)
    }
}
