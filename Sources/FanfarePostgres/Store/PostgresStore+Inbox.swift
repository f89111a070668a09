package import FanfareEngines
package import FanfareModel

extension PostgresStore {
    package func notifications(_ query: InboxQuery) async throws(FanfareError) -> InboxPage {
        // A statement for each kind, so that each has the plan that fits.
        let (rows, broadcasts): (String, String) =
            if query.isArchived {
                // Those put away one by one have rows.
                (
                    "(i.archived OR i.sequence <= (SELECT archived_up_to FROM who))",
                    "b.sequence <= (SELECT archived_up_to FROM who)"
                )
            } else {
                (
                    "NOT i.archived AND i.sequence > (SELECT archived_up_to FROM who)",
                    "b.sequence > (SELECT archived_up_to FROM who)"
                )
            }
        let (unreadRows, unreadBroadcasts) =
            query.unreadOnly
            ? (" AND NOT i.read AND i.sequence > (SELECT up_to FROM who)", " AND b.sequence > (SELECT up_to FROM who)")
            : ("", "")
        let most = self.configuration.inboxLimit
        let page = InboxSource.page(
            "ORDER BY sequence DESC", where: { "\($0).sequence < $2" }, rows: rows + unreadRows,
            broadcasts: broadcasts + unreadBroadcasts)
        return try await self.read("notifications") { session in
            // One statement, so that page and count are of one moment.
            let rows = try session.query(
                """
                WITH \(InboxSource.user), page AS MATERIALIZED (\(page)), \(InboxSource.bound(most))
                SELECT count.unread, p.sequence, p.event_id, e.type, e.data, e.created_at, p.read, p.archived, e.expires_at
                FROM (SELECT \(InboxSource.unread(most)) AS unread) count
                LEFT JOIN (page p JOIN events e ON e.id = p.event_id)
                    ON p.sequence > \(InboxSource.boundOf(page: "page", most))
                ORDER BY p.sequence DESC
                """,
                [
                    .text(query.user.rawValue), .int8(query.before ?? UInt64(Int64.max)),
                    .int8(Int64(min(max(query.limit, 0), 1000, most))),
                ])
            return InboxPage(entries: try PostgresStore.entries(rows, limit: .max), unread: try rows.int(0, 0))
        }
    }

    package func inbox(
        of user: UserID, after sequence: UInt64?, limit: Int
    ) async throws(FanfareError) -> InboxTail {
        let limit = min(max(limit, 0), 10_000)
        return try await self.read(sequence == nil ? "inbox_position" : "inbox_after") { session in
            var tail =
                try sequence.map { sequence throws(PostgresError) in
                    try session.inboxTail(of: user, after: sequence, limit: limit)
                } ?? InboxTail(entries: [], top: try session.inboxPosition(of: user), isTruncated: false)
            tail.policy = try self.policy(of: user, session)
            return tail
        }
    }

    package func inboxPositions(
        of users: [UserID], below bounds: [UserID: UInt64]
    ) async throws(FanfareError) -> [UserID: InboxPosition] {
        guard !users.isEmpty else { return [:] }
        let users = Array(users.prefix(1000))
        return try await self.read("inbox_positions") { session in
            let bounds = users.map { Int64(clamping: bounds[$0] ?? .max) }
            let rows = try session.query(InboxSource.tops, [.users(users), .int8s(bounds)])
            var positions: [UserID: InboxPosition] = [:]
            for row in rows.indices {
                positions[UserID(unchecked: try rows.string(row, 0))] = InboxPosition(
                    sequence: try rows.uint64(row, 1), preferences: try rows.int64(row, 2))
            }
            return positions
        }
    }

    fileprivate static func entries(_ rows: PostgresRows, limit: Int) throws(PostgresError) -> [InboxEntry] {
        var entries: [InboxEntry] = []
        for row in rows.indices.prefix(limit) where !rows.isNull(row, 1) {
            entries.append(
                InboxEntry(
                    sequence: try rows.uint64(row, 1), event: EventID(try rows.int64(row, 2)),
                    type: try rows.string(row, 3), data: try rows.bytes(row, 4), createdAt: try rows.timestamp(row, 5),
                    isRead: try rows.bool(row, 6), isArchived: try rows.bool(row, 7),
                    expiresAt: try rows.timestampOrNil(row, 8)))
        }
        return entries
    }
}

extension PostgresSession {
    fileprivate func inboxPosition(of user: UserID) throws(PostgresError) -> UInt64 {
        let top = try self.query("WITH \(InboxSource.user) SELECT \(InboxSource.top())", [.text(user.rawValue)])
        return UInt64(clamping: try top.onlyInt64())
    }

    /// Entries with all that decides whether they are pushed.
    fileprivate func inboxTail(of user: UserID, after sequence: UInt64, limit: Int) throws(PostgresError) -> InboxTail {
        let page = InboxSource.page("ORDER BY sequence", where: { "\($0).sequence > $2" })
        let rows = try self.query(
            """
            WITH \(InboxSource.user), page AS MATERIALIZED (\(page))
            SELECT top.sequence, p.sequence, p.event_id, e.type, e.data, e.created_at, p.read, p.archived, e.expires_at,
                (SELECT name FROM users s WHERE s.id = e.streamer),
                COALESCE(e.expires_at <= now(), false)
                    OR EXISTS (SELECT FROM streams s WHERE s.id = e.stream_id AND s.ended_at IS NOT NULL)
                    OR e.streamer IS NOT NULL AND NOT EXISTS (
                        SELECT FROM follows f
                        WHERE f.follower = (SELECT id FROM who) AND f.streamer = e.streamer AND f.until IS NULL
                            AND f.notify <= CASE WHEN e.type = 'stream.live' THEN 1 ELSE 0 END
                    ),
                COALESCE((SELECT gone > $2 FROM who), false)
            FROM (SELECT \(InboxSource.top()) AS sequence) top
            LEFT JOIN (page p JOIN events e ON e.id = p.event_id) ON true
            ORDER BY p.sequence
            """, [.text(user.rawValue), .int8(sequence), .int8(Int64(limit + 1))])
        var entries = try PostgresStore.entries(rows, limit: limit)
        for index in entries.indices {
            entries[index].streamer = try rows.stringOrNil(index, 9).map(UserID.init(unchecked:))
            entries[index].isStale = try rows.bool(index, 10)
        }
        // Of what was there before, nobody knows what the client had.
        let isCutOff = try rows.bool(0, 11)
        let isTruncated = isCutOff || rows.count > limit && !rows.isNull(rows.count - 1, 1)
        return InboxTail(entries: entries, top: try rows.uint64(0, 0), isTruncated: isTruncated)
    }
}
