import FanfareEngines
import FanfareModel

/// An event in the log from which shards work.
struct FanoutLogEntry: Sendable, Hashable {
    var number: Int64
    var event: EventID
    /// Nil where users were named.
    var streamer: Int64?
    var reach: Int16
    var shards: [Shard]
    var isLarge: Bool
    /// Recipients, where they were counted.
    var total: Int?
    var state: FanoutState
    /// Nothing is written of it for now: see `FanoutPhase`.
    var isHeld: Bool

    /// About how many of its recipients are in `count` of its shards.
    func recipients(in count: Int) -> Int {
        self.isLarge ? 0 : ((self.total ?? 0) * count + self.shards.count - 1) / max(1, self.shards.count)
    }
}

/// A shard's row, locked.
struct FanoutShardRow: Sendable, Hashable {
    var position: Int64
    var nextSequence: UInt64
}

/// What shards do with the next entries of the log. Pure: from entries and positions to rows and jobs.
struct FanoutTakeUp: Sendable, Hashable {
    struct Portion: Sendable, Hashable {
        /// Index into `events`: their order is the order of the sequences.
        var event: Int
        var shard: Shard
    }
    /// What is written whole.
    var events: [FanoutLogEntry] = []
    var portions: [Portion] = []
    /// What becomes jobs.
    var jobs: [(entry: FanoutLogEntry, shard: Shard)] = []
    /// What was withdrawn or given up before it was written.
    var skipped: Set<EventID> = []
    /// Where the shards are afterwards; those that nothing concerns are left out.
    var positions: [Shard: Int64] = [:]

    static func == (left: Self, right: Self) -> Bool {
        left.events == right.events && left.portions == right.portions && left.positions == right.positions
            && left.jobs.elementsEqual(right.jobs) { $0.entry == $1.entry && $0.shard == $1.shard }
    }

    func hash(into hasher: inout Hasher) { hasher.combine(self.portions) }

    struct Lane: Sendable, Hashable {
        var shard: Shard
        var streamer: Int64
    }

    /// - Parameters:
    ///   - busy: where jobs of a streamer are open: what follows waits behind them, so that each streamer's events stay in
    ///     order.
    ///   - queues: nothing is written whole: everything becomes jobs.
    init(_ entries: [FanoutLogEntry], _ rows: [Shard: FanoutShardRow], busy: Set<Lane>, queues: Bool) {
        var busy = busy
        for entry in entries {
            var index: Int?
            for shard in entry.shards {
                guard let row = rows[shard], row.position < entry.number else { continue }
                self.positions[shard] = entry.number
                if entry.state == .cancelled || entry.state == .stopped {
                    self.skipped.insert(entry.event)
                    continue
                }
                let lane = entry.streamer.map { Lane(shard: shard, streamer: $0) }
                let isBehind = lane.map { busy.contains($0) } ?? false
                if queues || entry.isLarge || entry.state == .paused || entry.isHeld || isBehind {
                    self.jobs.append((entry, shard))
                    if let lane, entry.state == .open, !entry.isHeld { busy.insert(lane) }
                    continue
                }
                if index == nil {
                    index = self.events.count
                    self.events.append(entry)
                }
                if let index { self.portions.append(Portion(event: index, shard: shard)) }
            }
        }
    }
}

extension PostgresSession {
    /// The next entries after `number`, in order.
    func fanoutLog(after number: Int64, limit: Int) throws(PostgresError) -> [FanoutLogEntry] {
        let rows = try self.query(
            """
            SELECT number, event_id, streamer, reach, shards, is_large, total, state, held_until IS NOT NULL
            FROM fanouts
            WHERE completed_at IS NULL AND number > $1 ORDER BY number LIMIT $2
            """, [.int8(number), .int8(Int64(limit))])
        var entries: [FanoutLogEntry] = []
        entries.reserveCapacity(rows.count)
        for row in rows.indices {
            entries.append(
                FanoutLogEntry(
                    number: try rows.int64(row, 0), event: EventID(try rows.int64(row, 1)),
                    streamer: try rows.int64OrNil(row, 2), reach: Int16(try rows.int64(row, 3)),
                    shards: try rows.int64s(row, 4).map { Shard(index: Int($0)) }, isLarge: try rows.bool(row, 5),
                    total: try rows.int64OrNil(row, 6).map(Int.init),
                    state: FanoutState(rawValue: Int16(try rows.int64(row, 7))) ?? .open,
                    isHeld: try rows.bool(row, 8)))
        }
        return entries
    }

    /// Which of these streamers have jobs that are not done, and where.
    func busyLanes(_ shards: [Shard], _ streamers: [Int64]) throws(PostgresError) -> Set<FanoutTakeUp.Lane> {
        guard !streamers.isEmpty else { return [] }
        let rows = try self.query(
            """
            SELECT DISTINCT j.shard, j.streamer FROM fanout_jobs j JOIN fanouts f ON f.event_id = j.event_id
            WHERE j.shard = ANY($1) AND j.streamer = ANY($2) AND j.state = 0 AND NOT j.is_written
                AND NOT j.is_withdrawal AND f.state = 0 AND f.held_until IS NULL
            """, [.shards(shards), .int8s(streamers)])
        var lanes: Set<FanoutTakeUp.Lane> = []
        for row in rows.indices {
            lanes.insert(
                FanoutTakeUp.Lane(shard: Shard(index: try rows.int(row, 0)), streamer: try rows.int64(row, 1)))
        }
        return lanes
    }

    func insertJobs(_ jobs: [(entry: FanoutLogEntry, shard: Shard)]) throws(PostgresError) {
        guard !jobs.isEmpty else { return }
        // Ids in the order of the log. Locked, so that whoever ends an event meanwhile finds the jobs, or is found.
        try self.query(
            """
            INSERT INTO fanout_jobs (event_id, streamer, shard, reach, user_ids)
            SELECT p.event_id, f.streamer, p.shard, f.reach, COALESCE(n.user_ids, '{}')
            FROM unnest($1::bigint[], $2::smallint[]) WITH ORDINALITY AS p (event_id, shard, place)
            JOIN (
                SELECT event_id, streamer, reach FROM fanouts
                WHERE event_id = ANY($1) AND state IN (0, 1) ORDER BY event_id FOR SHARE
            ) f ON f.event_id = p.event_id
            LEFT JOIN fanout_named n ON n.event_id = p.event_id AND n.shard = p.shard
            ORDER BY p.place
            """, [.int8s(jobs.map(\.entry.event.rawValue)), .shards(jobs.map(\.shard))])
    }
}
