package import FanfareEngines
package import FanfareModel
import Metrics

extension PostgresStore {
    @discardableResult
    package func follow(_ follow: Follow) async throws(FanfareError) -> Bool {
        guard follow.user != follow.streamer else { throw .badRequest("a user cannot follow himself") }
        let ids = try await self.ids(of: [follow.user, follow.streamer], "follow")
        guard let user = ids[follow.user], let streamer = ids[follow.streamer] else { throw .internal }
        return try await self.request("follow") { session in
            let shard = Shard(of: follow.user)
            try session.lockFollows(of: user, streamers: [streamer])
            let open = try session.openFollows(of: user, shard, streamers: [streamer]).first
            let level = try session.level(of: user)
            let chosen = follow.keepsNotify ? open?.chosen ?? follow.notify.stored : follow.notify.stored
            if let open {
                try session.change([open.with(chosen: chosen, level: level)], of: user, shard)
            } else {
                try session.query(
                    """
                    INSERT INTO follows (streamer, shard, follower, since, notify, chosen)
                    SELECT $1, $2, $3, COALESCE((SELECT max(id) FROM events WHERE streamer = $1), 0), $4, NULLIF($5, $4)
                    ON CONFLICT DO NOTHING
                    """,
                    [.int8(streamer), .shard(shard), .int8(user), .int2(max(chosen, level)), .int2(chosen)])
            }
            switch follow.mute {
            case .keep: return false
            case .remove: return try session.unmute(streamer, for: user)
            case .set(let until):
                let limit = self.configuration.mutedStreamersLimit
                guard try session.mute(streamer, until: until, for: user, limit: limit) else {
                    self.metrics.mutesRefused.increment()
                    throw FanfareError.limitExceeded("more than \(limit) muted streamers")
                }
                return true
            }
        }
    }

    @discardableResult
    package func unfollow(user: UserID, streamer: UserID) async throws(FanfareError) -> Bool {
        let ids = try await self.ids(of: [user, streamer], "unfollow")
        guard let userID = ids[user], let streamerID = ids[streamer] else { throw .internal }
        return try await self.request("unfollow") { session in
            let key: [PostgresValue] = [.int8(streamerID), .shard(Shard(of: user)), .int8(userID)]
            try session.lockFollows(of: userID, streamers: [streamerID])
            guard let open = try session.openFollows(of: userID, Shard(of: user), streamers: [streamerID]).first else {
                return false
            }
            if open.isNeeded {
                try session.query(
                    """
                    UPDATE follows SET until = $4
                    WHERE streamer = $1 AND shard = $2 AND follower = $3 AND until IS NULL
                    """, key + [.int8(open.newest)])
            } else {
                try session.query(
                    """
                    DELETE FROM follows WHERE streamer = $1 AND shard = $2 AND follower = $3 AND until IS NULL
                    """, key)
            }
            return try session.unmute(streamerID, for: userID)
        }
    }
}

/// A follow that has not ended.
struct OpenFollow: Sendable, Hashable {
    var streamer: Int64
    /// What holds.
    var notify: Int16
    /// What was chosen for this streamer; the user's level may be narrower.
    var chosen: Int16
    /// The streamer's newest event: what follows from now on is after it, what ended is up to it.
    var newest: Int64
    /// Whether an event counts on the follow as it was.
    var isNeeded: Bool

    /// As it is to be.
    func with(chosen: Int16, level: Int16) -> FollowChange {
        FollowChange(from: self, chosen: chosen, notify: max(chosen, level))
    }
}

struct FollowChange: Sendable, Hashable {
    var from: OpenFollow
    var chosen: Int16
    var notify: Int16
}

extension PostgresSession {
    /// Serialises the follows of one user, and lets no event of the streamers come between.
    /// - Parameter streamers: ascending, so that two who lock the same do not deadlock.
    func lockFollows(of follower: Int64, streamers: [Int64]) throws(PostgresError) {
        try self.query(
            "SELECT pg_advisory_xact_lock_shared(hashint8extended(id, 1)) FROM unnest($1::bigint[]) AS locked (id)",
            [.int8s(streamers)])
        try self.query("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", [.int8(follower)])
    }

    /// Events of this streamer wait for the lock that `lockFollows` shares: their ids are in the order of their commits.
    func lockEvents(of streamer: Int64) throws(PostgresError) {
        try self.query("SELECT pg_advisory_xact_lock(hashint8extended($1, 1))", [.int8(streamer)])
    }

    /// The user's follows of these streamers that have not ended. An event counts on one that is still being fanned out,
    /// or that is a broadcast, for as long as there is one.
    func openFollows(
        of follower: Int64, _ shard: Shard, streamers: [Int64]
    ) throws(PostgresError) -> [OpenFollow] {
        // One statement: a fan-out that ends meanwhile is seen as the one or the other.
        let rows = try self.query(
            """
            SELECT f.streamer, f.notify, COALESCE(f.chosen, f.notify),
                COALESCE((SELECT max(id) FROM events e WHERE e.streamer = f.streamer), 0),
                EXISTS (
                    SELECT FROM fanouts o
                    WHERE o.streamer = f.streamer AND o.completed_at IS NULL AND o.event_id > f.since
                ) OR EXISTS (
                    SELECT FROM broadcasts b
                    WHERE b.shard = f.shard AND b.streamer = f.streamer AND b.event_id > f.since
                )
            FROM follows f
            WHERE f.follower = $1 AND f.shard = $2 AND f.streamer = ANY($3) AND f.until IS NULL
            """, [.int8(follower), .shard(shard), .int8s(streamers)])
        var follows: [OpenFollow] = []
        for row in rows.indices {
            follows.append(
                OpenFollow(
                    streamer: try rows.int64(row, 0), notify: Int16(try rows.int64(row, 1)),
                    chosen: Int16(try rows.int64(row, 2)), newest: try rows.int64(row, 3),
                    isNeeded: try rows.bool(row, 4)))
        }
        return follows
    }

    /// Changes follows so that events that were accepted before count on them as they were.
    func change(_ changes: [FollowChange], of follower: Int64, _ shard: Shard) throws(PostgresError) {
        let changes = changes.filter { $0.notify != $0.from.notify || $0.chosen != $0.from.chosen }
        let key: [PostgresValue] = [.int8(follower), .shard(shard)]
        func columns(_ changes: [FollowChange]) -> [PostgresValue] {
            key + [
                .int8s(changes.map(\.from.streamer)), .int2s(changes.map(\.notify)), .int2s(changes.map(\.chosen)),
            ]
        }
        let split = changes.filter { $0.notify != $0.from.notify && $0.from.isNeeded }
        let kept = changes.filter { $0.notify == $0.from.notify || !$0.from.isNeeded }
        if !kept.isEmpty {
            try self.query(
                """
                UPDATE follows f SET notify = n.notify, chosen = NULLIF(n.chosen, n.notify)
                FROM unnest($3::bigint[], $4::smallint[], $5::smallint[]) AS n (streamer, notify, chosen)
                WHERE f.follower = $1 AND f.shard = $2 AND f.streamer = n.streamer AND f.until IS NULL
                """, columns(kept))
        }
        guard !split.isEmpty else { return }
        let newest = PostgresValue.int8s(split.map(\.from.newest))
        try self.query(
            """
            UPDATE follows f SET until = n.newest FROM unnest($3::bigint[], $4::bigint[]) AS n (streamer, newest)
            WHERE f.follower = $1 AND f.shard = $2 AND f.streamer = n.streamer AND f.until IS NULL
            """, key + [.int8s(split.map(\.from.streamer)), newest])
        try self.query(
            """
            INSERT INTO follows (streamer, shard, follower, since, notify, chosen)
            SELECT n.streamer, $2, $1, n.newest, n.notify, NULLIF(n.chosen, n.notify)
            FROM unnest($3::bigint[], $4::smallint[], $5::smallint[], $6::bigint[])
                AS n (streamer, notify, chosen, newest)
            ON CONFLICT DO NOTHING
            """, columns(split) + [newest])
    }
}
