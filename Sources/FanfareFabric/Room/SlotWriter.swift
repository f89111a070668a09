import FanfareCore
import FanfareEngines
package import FanfareModel
import Logging

/// Writes what the rooms of one owned slot publish: holds the slot's fence, opens rooms, and appends in batches. While a
/// batch is in flight the next one gathers.
package actor SlotWriter {
    package struct Limits: Sendable, Hashable {
        /// Publications that wait in one slot; beyond it publishers are refused for now.
        package var waitingCount = 20_000
        /// Their bytes.
        package var waitingBytes = 32 << 20
        /// One append carries at most this many publications, and bytes, of all rooms together.
        package var batchCount = 512
        package var batchBytes = 1 << 20
        /// A room that nobody touched for this long leaves the owner's memory. Edges with subscribers touch theirs.
        package var idleTime: Duration = .seconds(600)
        /// The same while `rooms` is reached.
        package var idleTimeWhenFull: Duration = .seconds(60)
        /// Rooms open on the node, in all slots; beyond it others are refused for now.
        package var rooms = 100_000

        package init() {}
    }

    package nonisolated let unownedExecutor: UnownedSerialExecutor
    package nonisolated let slot: Slot
    nonisolated let loop: any Loop
    private let broker: any Broker
    private let membership: Membership
    private let map: ClusterMap
    private let limits: Limits
    private let retention: @Sendable (String) -> Retention
    private let newEpoch: @Sendable () -> String
    private let logger: Logger
    private let metrics: FabricMetrics
    private let budget: RoomBudget

    private var rooms: [String: Room] = [:]
    /// Rooms with work, in the order in which they got it.
    private var ready: [Room] = []
    private var fence: Fence?
    /// The fence held last, as long as no view was missed: another one of the same generation says that the slot may have
    /// been another node's in between.
    private var lastFence: Fence?
    private var tenure: UInt64
    /// Given up for good: where the slot comes back, another writer begins anew.
    private var isDisowned = false
    private var waitingCount = 0
    private var waitingBytes = 0
    private var isPumping = false

    init(
        slot: Slot, loop: any Loop, broker: any Broker, membership: Membership, map: ClusterMap, limits: Limits,
        retention: @escaping @Sendable (String) -> Retention, newEpoch: @escaping @Sendable () -> String,
        logger: Logger, metrics: FabricMetrics, budget: RoomBudget
    ) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.slot = slot
        self.loop = loop
        self.broker = broker
        self.membership = membership
        self.map = map
        self.limits = limits
        self.retention = retention
        self.newEpoch = newEpoch
        self.logger = logger
        self.metrics = metrics
        self.budget = budget
        self.tenure = map.tenure
    }

    /// How many rooms are in memory.
    package var roomCount: Int { self.rooms.count }

    /// The fence held, for checkers.
    package var heldFence: Fence? { self.fence }

    // MARK: Work comes in

    /// Queues a publication; `reply` is called once, on this loop.
    func publish(
        _ entry: AppendEntry, room name: String,
        reply: @escaping @Sendable (Result<AppendedEntry, RoomRefusal>) -> Void
    ) {
        guard self.isOwner else { return reply(.failure(.moved)) }
        guard self.map.holdsLease(at: self.loop.now) else { return reply(.failure(.unavailable)) }
        self.noticeTenure()
        let pending = Room.Pending(entry: entry, reply: reply)
        guard self.waitingCount < self.limits.waitingCount,
            self.waitingBytes + pending.bytes <= self.limits.waitingBytes, let room = self.room(name)
        else {
            self.metrics.publicationsRefused.increment()
            return reply(.failure(.overloaded))
        }
        self.waitingCount += 1
        self.waitingBytes += pending.bytes
        room.onThisLoop { $0.enqueue(pending) }
        self.becameReady(room)
    }

    /// Reads from the owner's memory; opens the room where it must.
    func read(
        _ filter: HistoryFilter, room name: String,
        reply: @escaping @Sendable (Result<RoomHistory, RoomRefusal>) -> Void
    ) {
        guard self.isOwner else { return reply(.failure(.moved)) }
        // Without a lease another node may have written meanwhile: what is in memory may be old.
        guard self.map.holdsLease(at: self.loop.now) else { return reply(.failure(.unavailable)) }
        self.noticeTenure()
        guard let room = self.room(name) else { return reply(.failure(.overloaded)) }
        if room.onThisLoop({ $0.read(filter, reply: reply) }) { self.becameReady(room) }
    }

    func removeHistory(room name: String) async throws(RoomRefusal) {
        guard self.isOwner else { throw .moved }
        do throws(EngineError) {
            let fence = try await self.obtainFence()
            try await self.broker.removeHistory(name, fence: fence)
            self.rooms[name]?.onThisLoop { $0.historyRemoved() }
        } catch {
            if error.code == .fenced { self.fence = nil }
            throw self.refusal(for: error)
        }
    }

    private var isOwner: Bool { !self.isDisowned && self.map.owns(self.slot) }

    /// Where the slot may have been another node's without notice, nothing in memory is taken for the last word.
    private func noticeTenure() {
        let tenure = self.map.tenure
        guard tenure != self.tenure else { return }
        self.tenure = tenure
        self.fence = nil
        self.lastFence = nil
        self.loseProof()
    }

    private func loseProof() {
        for room in self.rooms.values { room.onThisLoop { $0.loseProof() } }
    }

    /// The view gave the slot to another node: what waits is sent back to the publishers' nodes, which ask the new owner.
    func disown() {
        self.isDisowned = true
        self.fence = nil
        guard !self.isPumping else { return }  // The pump notices at its next step.
        self.giveUp(.moved)
    }

    /// Forgets rooms that nobody touched for a while.
    /// - Parameter isFull: more rooms are wanted than may be open.
    func sweep(isFull: Bool = false) {
        let limit = self.loop.now + (.zero - (isFull ? self.limits.idleTimeWhenFull : self.limits.idleTime))
        guard !self.isPumping else { return }
        let before = self.rooms.count
        for (name, room) in self.rooms where room.onThisLoop({ $0.isIdle(since: limit) }) {
            self.rooms[name] = nil
        }
        self.budget.close(before - self.rooms.count)
    }

    /// - Returns: nil where no further room may be opened.
    private func room(_ name: String) -> Room? {
        if let room = self.rooms[name] { return room }
        guard self.budget.open() else { return nil }
        let room = Room(name: name, retention: self.retention(name), loop: self.loop)
        self.rooms[name] = room
        return room
    }

    private func becameReady(_ room: Room) {
        if !self.ready.contains(where: { $0 === room }) { self.ready.append(room) }
        guard !self.isPumping else { return }
        self.isPumping = true
        self.loop.task { await self.pump() }
    }

    // MARK: Work goes out

    private func pump() async {
        while !self.ready.isEmpty {
            guard self.isOwner else {
                self.giveUp(.moved)
                break
            }
            self.noticeTenure()
            do throws(EngineError) {
                let fence = try await self.obtainFence()
                try await self.openRooms(fence)
                try await self.appendBatch(fence)
            } catch {
                if error.code == .fenced {
                    await self.wasFenced()
                } else {
                    self.giveUp(self.refusal(for: error))
                }
            }
            self.ready.removeAll { room in !room.onThisLoop { $0.hasWork } }
        }
        self.isPumping = false
        if self.isDisowned { self.giveUp(.moved) }
    }

    private func obtainFence() async throws(EngineError) -> Fence {
        if let fence = self.fence { return fence }
        guard let view = self.map.view else { throw EngineError(.unavailable, "no view yet") }
        let fence = try await self.broker.claim(
            self.slot, view: view.number, node: self.map.node, incarnation: self.map.incarnation,
            held: self.lastFence)
        self.metrics.slotClaims.increment()
        if let last = self.lastFence, last != fence, last.generation == fence.generation { self.loseProof() }
        self.lastFence = fence
        self.logger.debug("slot claimed", metadata: ["slot": "\(self.slot)", "fence": "\(fence)"])
        self.fence = fence
        return fence
    }

    private func openRooms(_ fence: Fence) async throws(EngineError) {
        for room in self.ready where room.onThisLoop({ $0.needsOpening }) {
            let stored = try await self.broker.open(
                room.name, fence: fence, newEpoch: self.newEpoch(), retention: room.retention)
            let newEpoch = self.newEpoch()
            switch room.onThisLoop({ $0.found(stored, newEpoch: newEpoch) }) {
            case .adopted: break
            case .restore(let remembered):
                self.logger.error(
                    "the broker lost acknowledged publications: putting them back",
                    metadata: ["room": "\(room.name)", "stored": "\(stored.top)", "acknowledged": "\(remembered.top)"])
                self.metrics.restores.increment()
                let done = try await self.broker.restore(
                    room.name, to: remembered, from: stored.top, fence: fence, retention: room.retention)
                // Where the stored state changed meanwhile the room stays doubtful and is read again.
                if done { room.onThisLoop { $0.restored(remembered) } }
            case .renew(let renewed):
                self.logger.warning(
                    "the broker may have lost publications that were seen: the room goes on under a new epoch",
                    metadata: ["room": "\(room.name)", "stored": "\(stored.top)", "new": "\(renewed.top)"])
                let done = try await self.broker.restore(
                    room.name, to: renewed, from: stored.top, fence: fence, retention: room.retention)
                if done { room.onThisLoop { $0.renewed(renewed) } }
            }
        }
    }

    private func appendBatch(_ fence: Fence) async throws(EngineError) {
        var rooms: [Room] = []
        var batch: [RoomAppend] = []
        var count = 0
        var bytes = 0
        for room in self.ready where count < self.limits.batchCount && bytes < self.limits.batchBytes {
            let (room, left) = (room, (self.limits.batchCount - count, self.limits.batchBytes - bytes))
            guard let append = room.onThisLoop({ $0.beginBatch(maximumCount: left.0, maximumBytes: left.1) })
            else { continue }
            rooms.append(room)
            batch.append(append)
            count += append.entries.count
            bytes += append.entries.reduce(0) { $0 + $1.body.count }
        }
        guard !batch.isEmpty else { return }
        // A room that did not fit waits its turn behind those that come next.
        let outcomes: [RoomAppendOutcome]
        do {
            outcomes = try await self.broker.append(batch, slot: self.slot, fence: fence)
        } catch {
            for room in rooms {
                if error.code == .fenced {
                    room.onThisLoop { $0.requeue() }
                } else {
                    let refusal = self.refusal(for: error)
                    let unknown = error.code == .unknownOutcome
                    self.waitingBytes -= room.onThisLoop { $0.failBatch(refusal, outcomeUnknown: unknown) }
                }
            }
            if error.code != .fenced { self.waitingCount -= count }
            throw error
        }
        for (index, (room, outcome)) in zip(rooms, outcomes).enumerated() {
            switch outcome {
            case .appended(let entries):
                self.waitingCount -= batch[index].entries.count
                self.waitingBytes -= room.onThisLoop { $0.appended(entries) }
                self.metrics.publications.increment(by: entries.count { $0.isAppended })
            case .mismatch(let found):
                self.logger.warning(
                    "a room's stored position is not the expected one",
                    metadata: [
                        "room": "\(room.name)", "expected": "\(batch[index].expected)",
                        "found": "\(found.map { "\($0)" } ?? "nothing")",
                    ])
                room.onThisLoop { $0.requeue() }
            }
        }
        if self.ready.count > rooms.count {
            self.ready = self.ready.filter { room in !rooms.contains { $0 === room } } + rooms
        }
    }

    /// The engine knows of a newer owner, or of another generation: learn the view, and claim again where the slot is
    /// still this node's.
    private func wasFenced() async {
        self.metrics.fenceRejections.increment()
        self.fence = nil
        let before = self.map.view?.number
        await self.membership.refresh()
        guard self.isOwner else { return self.giveUp(.moved) }
        // Owner by the newest view and still refused: another node has a newer one yet. Do not spin on it.
        if self.map.view?.number == before { await self.loop.sleep(for: .milliseconds(50)) }
    }

    private func giveUp(_ refusal: RoomRefusal) {
        for room in self.ready {
            _ = room.onThisLoop { $0.failAll(refusal) }
        }
        self.ready = []
        self.waitingCount = 0
        self.waitingBytes = 0
        guard refusal == .moved else { return }
        self.budget.close(self.rooms.count)
        self.rooms = [:]
    }

    private func refusal(for error: EngineError) -> RoomRefusal {
        switch error.code {
        case .unavailable: .unavailable
        case .unknownOutcome: .unknownOutcome
        case .overloaded: .overloaded
        case .fenced: .moved
        case .rejected: .refused(.internal)
        }
    }
}
