import FanfareCore
import FanfareEngines
import FanfareModel
import Glibc
import Metrics

/// Works one order, on the thread of a connection: transactions, and what follows where one fails.
struct FanoutWork: Sendable {
    let order: FanoutOrder
    let configuration: PostgresConfiguration
    let random: @Sendable () -> UInt64
    let metrics: StoreMetrics
    /// Some of those online in a shard, so many at the most.
    let whoIsOnline: @Sendable (Shard, Int) -> [UserKey]

    /// Transactions that one call makes at the most, so that jobs full of faults do not hold the connection for long.
    static let stepLimit = 200
    /// Entries of the log that one transaction takes up.
    static let entryLimit = 500
    /// Jobs that one transaction looks at: one event in all shards at least.
    static let jobLimit = 2 * Shard.count

    /// What goes wrong with rows, as opposed to the transaction around them.
    enum Failure: Error {
        /// Small events, which are then made into jobs.
        case events(PostgresError)
        case jobs([FanoutJob], size: Int, PostgresError)
    }

    /// What one transaction is to do.
    enum Step {
        case next(queues: Bool)
        /// The next chunk of one job.
        case job(Int64, size: Int?)

        /// Nobody was at fault so far.
        var isFirst: Bool {
            switch self {
            case .next: true
            case .job: false
            }
        }
    }

    /// What was done so far within this call.
    struct Progress {
        var batch: FanoutBatch
        /// What the order asked to settle, until that is committed.
        var settling: FanoutSettlement?
        /// Shards that this call wrote to: theirs are the only rows that may be unsettled.
        var touched: [Shard: FanoutSettlement.Entry] = [:]
        var events: Set<EventID> = []
        /// Events that may be complete.
        var completing: [EventID]?
    }

    func work(_ session: PostgresSession) throws -> FanoutBatch {
        var progress = Progress(batch: FanoutBatch(cursor: self.order.cursor), settling: self.order.settling)
        do {
            try self.steps(session, &progress)
        } catch {
            // What was committed has to be pushed; the fault shows again at the next call.
            guard progress.batch.hasMore else { throw error }
        }
        if !progress.touched.isEmpty {
            progress.batch.settlement = FanoutSettlement(
                shards: progress.touched, events: progress.events.sorted())
        }
        if let completing = progress.completing {
            // Apart, after the commit: of two workers that settle the last shards at once, one sees both. The sweep does
            // it where this fails.
            try? session.completeEvents(completing.isEmpty ? nil : completing)
        }
        return progress.batch
    }

    private func steps(_ session: PostgresSession, _ progress: inout Progress) throws {
        var step = Step.next(queues: false)
        /// Jobs that failed together and are tried one by one.
        var suspects: [Int64] = []
        var races = 0
        for _ in 0..<FanoutWork.stepLimit {
            do {
                let done = try session.transaction { try self.transact(session, step, progress) }
                progress = done
                races = 0
                guard let suspect = suspects.popLast() else { return }
                step = .job(suspect, size: nil)
            } catch Failure.events(let cause) {
                switch cause.reaction {
                case .rejectData, .rejectStatement, .retryLater: step = .next(queues: true)
                case .retryTransaction where races < 5:
                    self.pause(races)
                    races += 1
                case .reconnect, .findPrimary, .backOff, .retryTransaction: throw cause
                }
            } catch Failure.jobs(let jobs, let size, let cause) {
                let isTogether = jobs.count > 1 || step.isFirst && jobs.contains { $0.ahead != .nobody }
                if isTogether, cause.reaction != .reconnect, cause.reaction != .findPrimary {
                    suspects = jobs.reversed().map(\.id)
                    step = .job(suspects.removeLast(), size: nil)
                    continue
                }
                guard let job = jobs.first else { throw cause }
                switch cause.reaction {
                case .reconnect, .findPrimary: throw cause
                case .retryTransaction where races < 5:
                    self.pause(races)
                    races += 1
                    continue
                case .rejectData where job.kind == .rows:
                    if let size = try self.narrow(session, job, size, cause) {
                        step = .job(job.id, size: size)
                        continue
                    }
                case .retryTransaction, .retryLater, .backOff, .rejectStatement, .rejectData:
                    try self.setAside(session, job, size, cause)
                }
                races = 0
                progress.batch.hasMore = true
                guard let suspect = suspects.popLast() else { return }
                step = .job(suspect, size: nil)
            } catch let error as PostgresError where error.reaction == .retryTransaction && races < 5 {
                self.pause(races)
                races += 1
            }
        }
    }

    /// One transaction.
    private func transact(_ session: PostgresSession, _ step: Step, _ before: Progress) throws -> Progress {
        var progress = before
        if let settling = progress.settling {
            let finished = try session.settle(settling)
            let isKnown = !settling.events.isEmpty
            progress.completing = isKnown ? Array(Set(settling.events + finished)) : []
            progress.settling = nil
        }
        switch step {
        case .next(let queues):
            let usable = try self.usableShards(session, &progress)
            try self.takeUp(session, usable, queues: queues, &progress)
        case .job(let id, let size):
            guard let job = try session.dueJob(id) else { return progress }
            let rows = try self.lock(session, [job.shard], &progress)
            guard !rows.isEmpty else { return progress }
            let limit = min(self.order.limit, size ?? job.chunkLimit ?? self.order.limit)
            let steps = try self.writeJobs(
                session, [(job, limit)], rows, after: 0, isAlone: true, isNarrow: size != nil, &progress)
            try self.spend(session, steps, more: 0)
        }
        return progress
    }

    /// The shards that this order may write to, and where they are; says which it may not.
    private func usableShards(
        _ session: PostgresSession, _ progress: inout Progress
    ) throws(PostgresError) -> [Shard: Int64] {
        let rows = try session.query(
            """
            SELECT shard, fence, generation, settled_sequence < next_sequence - 1, position FROM shards
            WHERE shard = ANY($1)
            """, [.shards(self.order.shards.keys)])
        var usable: [Shard: Int64] = [:]
        progress.batch.fenced = []
        progress.batch.unsettled = []
        for row in rows.indices {
            let shard = Shard(index: try rows.int(row, 0))
            let fence = Fence(generation: try rows.string(row, 2), number: try rows.uint64(row, 1))
            if self.order.shards[shard] != fence {
                progress.batch.fenced.append(shard)
            } else if try rows.bool(row, 3), progress.touched[shard] == nil {
                progress.batch.unsettled.append(shard)
            } else {
                usable[shard] = try rows.int64(row, 4)
            }
        }
        return usable
    }

    /// Locks the shards' rows until the transaction ends, so that a take-over waits for it, and checks the fences.
    private func lock(
        _ session: PostgresSession, _ shards: some Collection<Shard>, _ progress: inout Progress
    ) throws(PostgresError) -> [Shard: FanoutShardRow] {
        guard !shards.isEmpty else { return [:] }
        // Sequences begin anew, higher, with each partition of the inbox: what is older lies below a bound.
        let rows = try session.query(
            """
            SELECT shard, fence, generation, position, GREATEST(next_sequence, (SELECT inbox_floor FROM instance))
            FROM shards WHERE shard = ANY($1) ORDER BY shard FOR NO KEY UPDATE
            """, [.shards(shards)])
        var locked: [Shard: FanoutShardRow] = [:]
        for row in rows.indices {
            let shard = Shard(index: try rows.int(row, 0))
            let fence = Fence(generation: try rows.string(row, 2), number: try rows.uint64(row, 1))
            guard self.order.shards[shard] == fence else {
                if !progress.batch.fenced.contains(shard) { progress.batch.fenced.append(shard) }
                continue
            }
            locked[shard] = FanoutShardRow(position: try rows.int64(row, 3), nextSequence: try rows.uint64(row, 4))
        }
        return locked
    }

    /// Takes new events up, and goes on with jobs.
    private func takeUp(
        _ session: PostgresSession, _ usable: [Shard: Int64], queues: Bool, _ progress: inout Progress
    ) throws {
        var cursor = self.order.cursor
        progress.batch.cursor = cursor
        let limit = try self.rowsLeft(session)
        guard limit > 0, !usable.isEmpty else { return }
        let entries = try self.nextEntries(session, usable, limit, &cursor)
        // Jobs that were made and failed at once are committed first, so that they can be told apart.
        let wantsJobs = (cursor.owesJobs || !entries.contains { !$0.isLarge }) && (!queues || entries.isEmpty)
        var due =
            wantsJobs ? try session.dueJobs(Array(usable.keys), after: cursor.turn, limit: FanoutWork.jobLimit) : []
        var needed = Set(due.map(\.shard))
        for entry in entries { needed.formUnion(entry.shards) }
        let rows = try self.lock(session, needed, &progress)
        let streamers = Set(entries.compactMap(\.streamer))
        let busy = entries.isEmpty ? [] : try session.busyLanes(Array(rows.keys), Array(streamers))
        let plan = FanoutTakeUp(entries, rows, busy: busy, queues: queues)
        try session.insertJobs(plan.jobs)
        if wantsJobs, !plan.jobs.isEmpty {
            due = try session.dueJobs(Array(rows.keys), after: cursor.turn, limit: FanoutWork.jobLimit)
        }
        let written = try self.writeEvents(session, plan, rows, &progress)
        let used = try self.move(session, plan, rows, &progress)
        let left = max(limit - written, cursor.owesJobs ? min(limit, 1000) : 0)
        let turns = FanoutJob.inTurns(
            due.filter { rows[$0.shard] != nil }, limit: left, budgets: try self.budgetsLeft(session, due))
        var steps: [FanoutJobStep] = []
        if let last = turns.last {
            do {
                steps = try self.writeJobs(
                    session, turns, rows, after: used, isAlone: false, isNarrow: false, &progress)
            } catch Failure.jobs(_, _, let cause) where !plan.jobs.isEmpty {
                throw Failure.events(cause)
            }
            cursor.turn = last.job.event
        }
        try self.spend(session, steps, more: written)
        cursor.owesJobs = written > 0 && !wantsJobs
        progress.batch.cursor = cursor
        // What was passed over has to be looked at again, once it is settled or owned anew.
        if !progress.batch.fenced.isEmpty || !progress.batch.unsettled.isEmpty {
            progress.batch.cursor.number = min(progress.batch.cursor.number, self.order.cursor.number)
        }
        // The log may go on behind entries that were none of these shards' business.
        if progress.batch.cursor.number > self.order.cursor.number { progress.batch.hasMore = true }
    }

    /// Entries that concern these shards, with those shards alone: as many as fit into the budget.
    private func nextEntries(
        _ session: PostgresSession, _ usable: [Shard: Int64], _ limit: Int, _ cursor: inout FanoutCursor
    ) throws(PostgresError) -> [FanoutLogEntry] {
        let log = try session.fanoutLog(after: cursor.number, limit: FanoutWork.entryLimit)
        var entries: [FanoutLogEntry] = []
        var budget = limit
        for var entry in log {
            let ours = entry.shards.filter { usable[$0].map { $0 < entry.number } ?? false }
            if !ours.isEmpty {
                let recipients = entry.recipients(in: ours.count)
                guard entries.isEmpty || recipients <= budget else { break }
                budget -= recipients
                entry.shards = ours
                entries.append(entry)
            }
            cursor.number = entry.number
        }
        return entries
    }

    /// A few milliseconds on the connection's own thread: a lost race is short.
    private func pause(_ attempt: Int) {
        let delay = Backoff(base: .milliseconds(5), cap: .milliseconds(100))
            .delay(attempt: attempt, random: self.random())
        usleep(UInt32(clamping: delay.nanoseconds / 1000))
    }
}
