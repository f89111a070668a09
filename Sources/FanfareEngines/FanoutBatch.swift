package import FanfareModel

/// What a worker of the fan-out asks the store to do next, in one go for all of its shards.
package struct FanoutOrder: Sendable, Hashable {
    /// The shards it owns, each with the fence it took.
    package var shards: [Shard: Fence]
    /// Where it is: a new worker, or one with new shards, begins with an empty one.
    package var cursor: FanoutCursor
    /// About how many inbox rows one transaction may write; 1–100,000.
    package var limit: Int
    /// The pushes of the batch before were made.
    package var settling: FanoutSettlement?

    package init(
        shards: [Shard: Fence], cursor: FanoutCursor = FanoutCursor(), limit: Int, settling: FanoutSettlement? = nil
    ) {
        self.shards = shards
        self.cursor = cursor
        self.limit = limit
        self.settling = settling
    }
}

/// How far a worker has come. A hint that saves reading: what counts is kept in the store, per shard.
package struct FanoutCursor: Sendable, Hashable {
    /// All events up to this number of the log were taken up by the worker's shards.
    package var number: Int64
    /// The event whose job had its turn last: the next one begins.
    package var turn: EventID
    /// Small events were written last: jobs have their turn next.
    package var owesJobs: Bool

    package init(number: Int64 = 0, turn: EventID = EventID(0), owesJobs: Bool = false) {
        self.number = number
        self.turn = turn
        self.owesJobs = owesJobs
    }
}

/// What one call did: inbox rows that were committed and have to be pushed to those of their users who are online.
package struct FanoutBatch: Sendable, Hashable {
    /// One per event; recipients of one shard are in ascending sequence.
    package var pushes: [FanoutPush]
    /// Events written once for a whole shard: `Store.broadcastPushes` says whom of those online they are for.
    package var broadcasts: [FanoutBroadcast]
    /// Inbox rows written.
    package var rows: Int
    /// Shards whose fence is no longer the order's: nothing was done for them.
    package var fenced: [Shard]
    /// Shards with rows that were committed and never settled, by an owner before or by a call whose answer was lost.
    /// Nothing is done for them until `unsettledPushes` was asked and settled.
    package var unsettled: [Shard]
    /// Something was done: there may be more.
    package var hasMore: Bool
    package var cursor: FanoutCursor
    /// To be handed back once the pushes were made. Nil where nothing was written.
    package var settlement: FanoutSettlement?

    package init(
        pushes: [FanoutPush] = [], broadcasts: [FanoutBroadcast] = [], rows: Int = 0, fenced: [Shard] = [],
        unsettled: [Shard] = [], hasMore: Bool = false,
        cursor: FanoutCursor = FanoutCursor(), settlement: FanoutSettlement? = nil
    ) {
        self.pushes = pushes
        self.broadcasts = broadcasts
        self.rows = rows
        self.fenced = fenced
        self.unsettled = unsettled
        self.hasMore = hasMore
        self.cursor = cursor
        self.settlement = settlement
    }
}

/// An event that was written once for a shard.
package struct FanoutBroadcast: Sendable, Hashable {
    package var event: EventID
    package var shard: Shard
    package var sequence: UInt64

    package init(event: EventID, shard: Shard, sequence: UInt64) {
        self.event = event
        self.shard = shard
        self.sequence = sequence
    }
}

/// Says of a batch that its pushes were made. Handed in twice, it counts once.
package struct FanoutSettlement: Sendable, Hashable {
    package struct Entry: Sendable, Hashable {
        package var fence: Fence
        /// All rows of the shard up to here were pushed.
        package var sequence: UInt64

        package init(fence: Fence, sequence: UInt64) {
            self.fence = fence
            self.sequence = sequence
        }
    }
    package var shards: [Shard: Entry]
    /// The events that may be complete with it. Empty: not known, the store looks.
    package var events: [EventID]
    /// To how many users each event was delivered.
    package var delivered: [EventID: Int]

    package init(shards: [Shard: Entry] = [:], events: [EventID] = [], delivered: [EventID: Int] = [:]) {
        self.shards = shards
        self.events = events
        self.delivered = delivered
    }

    /// Enters what `counts` says of `pushes`: users reached, in the same order.
    package mutating func deliver(_ pushes: [FanoutPush], _ counts: [Int]) {
        for (push, count) in zip(pushes, counts) where count > 0 { self.delivered[push.event, default: 0] += count }
    }

    /// Adds another one, of other shards.
    package mutating func merge(_ other: FanoutSettlement) {
        self.events = self.events.isEmpty || other.events.isEmpty ? [] : self.events + other.events
        self.shards.merge(other.shards) { $1.sequence > $0.sequence ? $1 : $0 }
        self.delivered.merge(other.delivered, uniquingKeysWith: +)
    }
}
