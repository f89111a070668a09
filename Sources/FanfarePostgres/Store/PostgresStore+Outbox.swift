package import FanfareEngines
import FanfareModel
import Logging
import Metrics

extension PostgresStore {
    /// One relay works at a time in the cluster, others return at once: events get their numbers in the order of each
    /// streamer, whose own order is kept by `lockEvents`. Rows are deleted as they are read, so there is no cursor
    /// that a late commit could fall behind.
    package func relayOutbox(limit: Int) async throws(EngineError) -> OutboxRelay {
        await self.maintain()
        let limit = min(max(limit, 1), 10_000)
        do {
            return try await self.relay(limit)
        } catch  where error.code == .rejected {
            // One of the rows is at fault: alone, it shows, and the others get on.
            self.logger.error("outbox row at fault", metadata: ["error": "\(error)"])
        }
        var shards: Set<Shard> = []
        var events = 0
        for _ in 0..<limit {
            do {
                let one = try await self.relay(1)
                guard one.events > 0 else { break }
                shards.formUnion(one.shards)
                events += one.events
            } catch  where error.code == .rejected {
                try await self.buryOutboxRow(error)
            }
        }
        return OutboxRelay(shards: shards.sorted(), events: events, hasMore: events > 0)
    }

    private static let relayLock: Int64 = Migrator.lockKey + 1

    private func relay(_ limit: Int) async throws(EngineError) -> OutboxRelay {
        let configuration = self.configuration
        return try await self.work("relay_outbox") { session in
            guard try session.query("SELECT pg_try_advisory_xact_lock($1)", [.int8(PostgresStore.relayLock)]).bool(0, 0)
            else { return OutboxRelay(shards: [], events: 0, hasMore: false) }
            let rows = try session.query(
                """
                SELECT o.event_id, o.streamer, o.reach, e.type FROM outbox o LEFT JOIN events e ON e.id = o.event_id
                WHERE NOT o.is_dead ORDER BY o.event_id LIMIT $1 FOR UPDATE OF o
                """, [.int8(Int64(limit))])
            guard !rows.isEmpty else { return OutboxRelay(shards: [], events: 0, hasMore: false) }
            var events: [RelayedEvent] = []
            for row in rows.indices {
                let type = try rows.stringOrNil(row, 3) ?? ""
                events.append(
                    RelayedEvent(
                        event: try rows.int64(row, 0), streamer: try rows.int64OrNil(row, 1),
                        reach: Int16(try rows.int64(row, 2)),
                        priority: Int16(clamping: configuration.fanoutPriorities[type] ?? 0),
                        budget: configuration.fanoutRates[type] == nil ? nil : type))
            }
            try session.findFollowers(&events, configuration)
            try session.findNamed(&events, small: configuration.directRecipients)
            try session.enterLog(events)
            try session.query("DELETE FROM outbox WHERE event_id = ANY($1)", [.int8s(events.map(\.event))])
            try session.forgetEndedFollows(of: events.filter(\.shards.isEmpty).compactMap(\.streamer))
            let shards = Set(events.flatMap(\.shards)).sorted().map { Shard(index: Int($0)) }
            return OutboxRelay(shards: shards, events: events.count, hasMore: events.count == limit)
        }
    }

    /// The first row cannot be relayed.
    private func buryOutboxRow(_ cause: EngineError) async throws(EngineError) {
        let buried = try await self.work("bury_outbox") { session in
            try session.query(
                """
                WITH row AS (
                    UPDATE outbox SET is_dead = true
                    WHERE event_id = (SELECT min(event_id) FROM outbox WHERE NOT is_dead) RETURNING event_id
                )
                INSERT INTO dead_letters
                    (kind, event_id, payload, cause, sql_state, attempts, first_failed_at, last_failed_at)
                SELECT 'outbox', event_id, '{"event":"' || event_id || '"}', $1, $2, 1, now(), now() FROM row
                """, [.text(cause.message), .text(cause.sqlState)]
            ).affected
        }
        self.metrics.deadOutbox.increment(by: buried)
    }
}

/// An event on its way from the outbox into the log.
private struct RelayedEvent {
    let event: Int64
    let streamer: Int64?
    let reach: Int16
    let priority: Int16
    let budget: String?
    var shards: [Int64] = []
    var isLarge = false
    var isBroadcast = false
    /// Recipients, where they are few enough to be counted.
    var total: Int64?
}

extension PostgresSession {
    /// Which shards have followers that are meant, and how many: exactly as far as there are jobs for them.
    fileprivate func findFollowers(
        _ events: inout [RelayedEvent], _ configuration: PostgresConfiguration
    ) throws(PostgresError) {
        let threshold = configuration.broadcastThreshold > 0 ? configuration.broadcastThreshold : .max
        let small = min(configuration.directRecipients, threshold - 1)
        let followed = events.indices.filter { events[$0].streamer != nil }
        guard !followed.isEmpty else { return }
        let meant = """
            f.streamer = e.streamer AND f.since < e.event_id AND (f.until IS NULL OR f.until >= e.event_id)
                AND f.notify <= e.reach
            """
        let list = "unnest($1::bigint[], $2::bigint[], $3::smallint[]) AS e (event_id, streamer, reach)"
        func parameters(_ indices: [Int]) -> [PostgresValue] {
            [
                .int8s(indices.map { events[$0].event }), .int8s(indices.map { events[$0].streamer ?? 0 }),
                .int2s(indices.map { events[$0].reach }),
            ]
        }
        var places: [Int64: Int] = [:]
        for index in followed { places[events[index].event] = index }
        let counted = try self.query(
            """
            SELECT e.event_id, count(*), array_agg(DISTINCT f.shard)
            FROM \(list) CROSS JOIN LATERAL (SELECT f.shard FROM follows f WHERE \(meant) LIMIT $4) f
            GROUP BY e.event_id
            """, parameters(followed) + [.int8(Int64(small) + 1)])
        var large: [Int] = []
        for row in counted.indices {
            guard let index = places[try counted.int64(row, 0)] else { continue }
            let count = try counted.int64(row, 1)
            if count > Int64(small) {
                large.append(index)
            } else {
                events[index].total = count
                events[index].shards = try counted.int64s(row, 2)
            }
        }
        guard !large.isEmpty else { return }
        let totals = try self.query(
            """
            SELECT e.event_id, (SELECT count(*) FROM (SELECT FROM follows f WHERE \(meant) LIMIT $4) f) FROM \(list)
            """, parameters(large) + [.int8(Int64(threshold))])
        for row in totals.indices {
            guard let index = places[try totals.int64(row, 0)] else { continue }
            let count = try totals.int64(row, 1)
            events[index].isBroadcast = count >= Int64(threshold)
            if !events[index].isBroadcast { events[index].total = count }
        }
        // From one shard to the next by the index, not through all follows.
        let found = try self.query(
            """
            SELECT e.event_id, hits.shards FROM \(list) CROSS JOIN LATERAL (
                WITH RECURSIVE hit (shard) AS (
                    (SELECT f.shard FROM follows f WHERE \(meant) ORDER BY f.shard LIMIT 1)
                    UNION ALL
                    SELECT (SELECT f.shard FROM follows f WHERE \(meant) AND f.shard > hit.shard
                        ORDER BY f.shard LIMIT 1)
                    FROM hit WHERE hit.shard IS NOT NULL
                )
                SELECT array_agg(shard) AS shards FROM hit WHERE shard IS NOT NULL
            ) hits
            """, parameters(large))
        for row in found.indices {
            guard let index = places[try found.int64(row, 0)] else { continue }
            events[index].isLarge = true
            events[index].shards = try found.int64s(row, 1)
        }
    }

    /// Sorts named users by their shards.
    fileprivate func findNamed(_ events: inout [RelayedEvent], small: Int) throws(PostgresError) {
        let named = events.indices.filter { events[$0].streamer == nil }
        guard !named.isEmpty else { return }
        var places: [Int64: Int] = [:]
        for index in named { places[events[index].event] = index }
        let rows = try self.query(
            """
            INSERT INTO fanout_named (event_id, shard, user_ids)
            SELECT o.event_id, u.shard, array_agg(u.id ORDER BY u.id)
            FROM outbox o CROSS JOIN unnest(o.user_ids) AS named (id) JOIN users u ON u.id = named.id
            WHERE o.event_id = ANY($1) GROUP BY o.event_id, u.shard
            RETURNING event_id, shard, cardinality(user_ids)
            """, [.int8s(named.map { events[$0].event })])
        for row in rows.indices {
            guard let index = places[try rows.int64(row, 0)] else { continue }
            events[index].shards.append(try rows.int64(row, 1))
            events[index].total = (events[index].total ?? 0) + (try rows.int64(row, 2))
        }
        for index in named { events[index].isLarge = (events[index].total ?? 0) > Int64(small) }
    }

    /// Numbers the events, one relay at a time, so that whoever reads the log up to a number has seen all before it.
    fileprivate func enterLog(_ events: [RelayedEvent]) throws(PostgresError) {
        let numbers = try self.query(
            "SELECT nextval('fanout_numbers') FROM generate_series(1, $1)", [.int4(Int32(clamping: events.count))])
        var values: [Int64] = []
        for row in numbers.indices { values.append(try numbers.int64(row, 0)) }
        try self.query(
            """
            UPDATE fanouts f SET number = p.number, reach = p.reach, shards = p.shards::smallint[],
                shards_total = cardinality(p.shards::smallint[]), is_large = p.is_large = 1,
                total = NULLIF(p.total, -1), is_broadcast = p.is_broadcast = 1, priority = p.priority,
                budget = NULLIF(p.budget, ''), relayed_at = clock_timestamp(),
                first_sequence = (SELECT inbox_floor FROM instance),
                completed_at = CASE WHEN p.shards = '{}' THEN clock_timestamp() END
            FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::text[], $5::smallint[], $6::bigint[],
                $7::smallint[], $8::smallint[], $9::text[])
                AS p (event_id, number, reach, shards, is_large, total, is_broadcast, priority, budget)
            WHERE f.event_id = p.event_id
            """,
            [
                .int8s(events.map(\.event)), .int8s(values), .int2s(events.map(\.reach)),
                .texts(events.map { "{" + $0.shards.map(String.init).joined(separator: ",") + "}" }),
                // What a budget bounds goes by jobs, chunk by chunk.
                .int2s(events.map { $0.isLarge || $0.budget != nil ? 1 : 0 }),
                .int8s(events.map { $0.shards.isEmpty ? 0 : $0.total ?? -1 }),
                .int2s(events.map { $0.isBroadcast ? 1 : 0 }), .int2s(events.map(\.priority)),
                .texts(events.map { $0.budget ?? "" }),
            ])
    }
}
