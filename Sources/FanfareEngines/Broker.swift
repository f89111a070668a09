import FanfareCore
package import FanfareModel

/// What connects the nodes: membership, fences, room logs and messages. Implemented on Redis and in memory; both pass one
/// conformance suite (`FanfareTesting`).
///
/// Calls may come from any actor. Writes carry the caller's fence, and the engine refuses an old one atomically with the
/// write. Every call is bounded in time; failures are `EngineError`s.
package protocol Broker: Sendable {
    /// Begins to deliver to `receiver` and to keep the links up. Called once, before everything else; returns without
    /// waiting for the engine, which may be away.
    func start(receiver: any BrokerReceiver)

    /// Closes the links. Calls under way fail with `.unavailable` or `.unknownOutcome`.
    func stop() async

    // MARK: Membership

    /// Renews this member's lease by the engine's own clock, removes expired members, and returns the view. The view's
    /// number grows whenever the set of members, or a member's state, weight or incarnation, changed. Where the key space
    /// is empty a view of generation `newGeneration` begins with number 1. An engine that nobody could reach for most of a
    /// lease may give all members a new one instead of removing them.
    /// - Parameter seen: the newest view that the member knows. An engine that lost it goes on above it: a number never
    ///   stands for two views.
    /// - Throws: `.fenced` where another incarnation of this name renewed its lease within the last two thirds of it: two
    ///   processes run under one name, or the former one died just now. Nothing changed; the name is free when the other
    ///   one has left, or was silent for so long.
    func heartbeat(
        _ member: Member, lease: Duration, newGeneration: String, seen: ViewNumber?
    ) async throws(EngineError) -> View

    /// Removes this member (only this incarnation) at once.
    func leave(_ member: Member) async throws(EngineError)

    // MARK: Slots and rooms

    /// Takes the fence of `slot` for `node`, as the owner by view `view`. The same owner (node and incarnation) gets its
    /// fence again; another one gets a higher one. So does the same owner after a restart of the engine, unless it `held`
    /// the fence that is stored: the engine may have come back from before another owner's claim.
    ///
    /// An engine that was restarted gives no fence until all members beat again, or were removed: some of them may have
    /// seen views that it lost.
    /// - Parameter held: the fence that the owner holds, where it missed no view since it got it.
    /// - Throws: `.fenced` where the slot was claimed under a newer view of the same generation, where `view` is older than
    ///   the current one or of another generation, or while members are awaited.
    func claim(
        _ slot: Slot, view: ViewNumber, node: NodeID, incarnation: String, held: Fence?
    ) async throws(EngineError) -> Fence

    /// Reads a room as it is stored; where nothing is stored, it begins with `newEpoch` and top 0. A room at 0 is kept for
    /// `retention.emptyTime` after it was opened last: anybody can name a room.
    /// - Throws: `.fenced` where `fence` is not the slot's current one, or was not claimed since the engine was restarted.
    func open(_ room: String, fence: Fence, newEpoch: String, retention: Retention) async throws(EngineError)
        -> StoredRoom

    /// Appends the batch and publishes it to the rooms' subscribers, atomically per call.
    ///
    /// All rooms are of the one slot. For each room: the stored epoch and top must be the expected ones, else nothing of
    /// that room is appended and the outcome is `.mismatch`. A publication whose idempotency key was used in that room
    /// within `retention.idempotencyWindow` gets the position of the first one, is not appended again and uses no offset.
    /// One that wants its key to be known, and it is not, is refused by itself. So is one whose version is not higher than
    /// the room's. Other publications get the next offsets in order.
    /// - Throws: `.fenced` where `fence` is not the slot's current one: nothing was appended.
    func append(_ batch: [RoomAppend], slot: Slot, fence: Fence) async throws(EngineError) -> [RoomAppendOutcome]

    /// Puts back what the engine lost: sets the room's log to `room`, where its stored state is still `found`
    /// (nil: absent). Publishes nothing.
    /// - Returns: false where the stored state was not `found`.
    func restore(
        _ name: String, to room: StoredRoom, from found: StreamPosition?, fence: Fence, retention: Retention
    ) async throws(EngineError) -> Bool

    /// Reads a room without owning it.
    /// - Parameter since: publications after this offset; nil for the position alone.
    /// - Returns: nil where nothing is stored.
    func read(_ room: String, since: UInt64?, limit: Int) async throws(EngineError) -> StoredRoom?

    /// Removes a room's publications; epoch and top stay.
    func removeHistory(_ room: String, fence: Fence) async throws(EngineError)

    // MARK: Messages

    /// Delivers to every node that is subscribed to the room, at most once, without a log: for rooms whose log is kept
    /// elsewhere.
    func broadcast(_ batch: PublishedBatch, room: String) async throws(EngineError)

    /// Subscribes this node to the room's publications. After it returned, everything published is delivered until
    /// the link breaks, which `BrokerReceiver.linkRestored` tells.
    func subscribe(room: String) async throws(EngineError)
    func unsubscribe(room: String)

    /// Sends bytes to a node's inbox, at most once, in order per sender.
    /// - Returns: false where no such node listens.
    func send(_ message: Bytes, to node: NodeID) async throws(EngineError) -> Bool

    /// Sends bytes to every node's inbox, this one's too.
    func sendToAll(_ message: Bytes) async throws(EngineError)

    /// For readiness and metrics.
    var health: BrokerHealth { get }
}

extension Broker {
    package func claim(
        _ slot: Slot, view: ViewNumber, node: NodeID, incarnation: String
    ) async throws(EngineError) -> Fence {
        try await self.claim(slot, view: view, node: node, incarnation: incarnation, held: nil)
    }
}

/// What a broker hands to the node. Called in order, on the broker's own executor: do little and hop.
package protocol BrokerReceiver: AnyObject, Sendable {
    /// Publications arrived for a room that this node subscribed to.
    func received(_ batch: PublishedBatch, room: String)
    /// A message arrived in this node's inbox.
    func received(message: Bytes)
    /// The membership changed: heartbeat now instead of at the next turn.
    func membershipChanged()
    /// The subscriptions are in place again after a break: whatever was published meanwhile is missing.
    func linkRestored()
    /// The link broke.
    func linkLost()
}

package struct BrokerHealth: Sendable, Hashable {
    /// Commands can be sent.
    package var commands: Bool
    /// Subscriptions are in place.
    package var subscriptions: Bool
    /// Of each class of work: `closed`, `open` or `half_open`. Empty where there is none.
    package var breakers: [String: String]
    /// Why not, for operators.
    package var problem: String?

    package init(
        commands: Bool, subscriptions: Bool, breakers: [String: String] = [:], problem: String? = nil
    ) {
        self.commands = commands
        self.subscriptions = subscriptions
        self.breakers = breakers
        self.problem = problem
    }

    /// The worst of them.
    package var breaker: String { CircuitBreaker.State.worst(self.breakers.values) }
}

/// How much of a room is kept, and for how long by the engine's clock.
package struct Retention: Sendable, Hashable {
    /// Publications kept. 0 keeps none: the room still has offsets.
    package var count: Int
    /// Bytes of bodies kept.
    package var bytes: Int
    /// How long publications are kept after the last one.
    package var time: Duration
    /// How long epoch and top are kept after the last publication; longer than `time`.
    package var positionTime: Duration
    /// How long the epoch of a room that was never written to is kept after it was opened.
    package var emptyTime: Duration
    /// How long an idempotency key is remembered.
    package var idempotencyWindow: Duration

    package init(
        count: Int = 300, bytes: Int = 8 << 20, time: Duration = .seconds(3600),
        positionTime: Duration = .seconds(30 * 86_400), emptyTime: Duration = .seconds(600),
        idempotencyWindow: Duration = .seconds(300)
    ) {
        self.count = count
        self.bytes = bytes
        self.time = time
        self.positionTime = positionTime
        self.emptyTime = min(emptyTime, positionTime)
        self.idempotencyWindow = idempotencyWindow
    }
}

/// One publication on its way into a log. The body is opaque to the engine.
package struct AppendEntry: Sendable, Hashable {
    package var body: Bytes
    package var idempotencyKey: String?
    /// No further key may be remembered: the publication passes where its key is known, and is refused where it is not.
    package var requiresKnownKey: Bool
    package var version: PublicationVersion?

    package init(
        body: Bytes, idempotencyKey: String? = nil, requiresKnownKey: Bool = false, version: PublicationVersion? = nil
    ) {
        self.body = body
        self.idempotencyKey = idempotencyKey
        self.requiresKnownKey = requiresKnownKey
        self.version = version
    }
}

/// Which state of what it tells of a publication carries: an older one than the room has seen is not appended.
package struct PublicationVersion: Sendable, Hashable {
    /// From 1; compared within one epoch.
    package var number: UInt64
    /// Where it changes, numbers begin anew. Empty: whatever epoch the room has.
    package var epoch: String

    package init(number: UInt64, epoch: String = "") {
        self.number = number
        self.epoch = epoch
    }

    /// Whether it is to be appended after `last`.
    package func isNewer(than last: PublicationVersion) -> Bool {
        (!self.epoch.isEmpty && self.epoch != last.epoch) || self.number > last.number
    }
}

package struct RoomAppend: Sendable, Hashable {
    package var room: String
    /// The position the owner believes in.
    package var expected: StreamPosition
    package var entries: [AppendEntry]
    package var retention: Retention

    package init(room: String, expected: StreamPosition, entries: [AppendEntry], retention: Retention) {
        self.room = room
        self.expected = expected
        self.entries = entries
        self.retention = retention
    }
}

package enum RoomAppendOutcome: Sendable, Hashable {
    /// One per entry, in order.
    case appended([AppendedEntry])
    /// The stored position is another one (nil: nothing is stored). Nothing of this room was appended.
    case mismatch(StreamPosition?)
}

/// What became of one publication of a batch.
package struct AppendedEntry: Sendable, Hashable {
    package enum Outcome: UInt64, Sendable {
        /// `position` is the publication's own.
        case appended = 0
        /// An earlier publication had the same idempotency key; `position` is that one's.
        case duplicate = 1
        /// Its key was to be known and is not; `position` is the room's top.
        case unknownKey = 2
        /// The room has seen its version or a higher one; `position` is the room's top.
        case outdated = 3
    }

    package var position: StreamPosition
    package var outcome: Outcome

    package init(position: StreamPosition, outcome: Outcome = .appended) {
        self.position = position
        self.outcome = outcome
    }

    package init(position: StreamPosition, isDuplicate: Bool) {
        self.init(position: position, outcome: isDuplicate ? .duplicate : .appended)
    }

    package var isAppended: Bool { self.outcome == .appended }
    package var isDuplicate: Bool { self.outcome == .duplicate }
}

/// A room's log as an engine has it: the bodies of the last publications, the very last at `top.offset`.
package struct StoredRoom: Sendable, Hashable {
    package var top: StreamPosition
    /// Contiguous, ascending, ending at `top.offset` (or, where a read had a limit, earlier: see `firstOffset`).
    package var bodies: [Bytes]
    /// The offset of `bodies[0]`; `top.offset + 1` where there are none.
    package var firstOffset: UInt64
    /// The engine restarted or failed over since this room was written last, so that publications which were seen may be
    /// missing. An owner that cannot prove the top from memory goes on under a new epoch, by `restore`. Told by `open`.
    package var mayHaveRolledBack: Bool

    package init(top: StreamPosition, bodies: [Bytes], firstOffset: UInt64, mayHaveRolledBack: Bool = false) {
        self.top = top
        self.bodies = bodies
        self.firstOffset = firstOffset
        self.mayHaveRolledBack = mayHaveRolledBack
    }
}

/// Consecutive publications of one room, as subscribers' nodes receive them.
package struct PublishedBatch: Sendable, Hashable {
    package var epoch: String
    package var firstOffset: UInt64
    package var bodies: [Bytes]

    package init(epoch: String, firstOffset: UInt64, bodies: [Bytes]) {
        self.epoch = epoch
        self.firstOffset = firstOffset
        self.bodies = bodies
    }
}

extension StoredRoom {
    /// Whether the bodies end at the top, as a room that is to be restored must.
    package var isContiguous: Bool {
        let count = UInt64(self.bodies.count)
        return self.top.offset < .max && count <= self.top.offset && self.firstOffset == self.top.offset - count + 1
    }
}
