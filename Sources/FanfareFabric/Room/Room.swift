import FanfareCore
import FanfareEngines
package import FanfareModel

/// The owner's side of a room: the one place where its publications get their order.
///
/// Lives on the loop of its slot and is driven by the slot's `SlotWriter`, which turns what waits here into batches.
/// Choosing an order and queueing happen without a suspension in between.
package actor Room {
    /// A publication on its way; `reply` is called once, on the room's loop.
    struct Pending: Sendable {
        let entry: AppendEntry
        let reply: @Sendable (Result<AppendedEntry, RoomRefusal>) -> Void
        var bytes: Int { self.entry.body.count + (self.entry.idempotencyKey?.utf8.count ?? 0) }
    }

    private struct Reader {
        let filter: HistoryFilter
        let reply: @Sendable (Result<RoomHistory, RoomRefusal>) -> Void
    }

    package nonisolated let unownedExecutor: UnownedSerialExecutor
    nonisolated let name: String
    nonisolated let retention: Retention
    private let loop: any Loop

    /// What was acknowledged last; nil until the room was read from the engine.
    private var top: StreamPosition?
    private var tail: HistoryTail<Bytes>
    /// The engine may have more than `top`: an append's outcome is unknown. The room must be read again.
    private var isDoubtful = false
    /// Nobody may have seen more than `top` and what is `inDoubt`: this owner alone has written since the room was read.
    private var isProven = false
    /// What may follow `top`: bodies of the append whose outcome is unknown.
    private var inDoubt: [Bytes] = []
    private var waiting: [Pending] = []
    private var inFlight: [Pending] = []
    private var readers: [Reader] = []
    private var lastAppend: MonotonicInstant
    private var lastUse: MonotonicInstant

    init(name: String, retention: Retention, loop: any Loop) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.name = name
        self.retention = retention
        self.loop = loop
        self.tail = HistoryTail(
            top: StreamPosition(offset: 0, epoch: ""), maximumCount: retention.count, maximumBytes: retention.bytes)
        self.lastAppend = loop.now
        self.lastUse = loop.now
    }

    var needsOpening: Bool { self.top == nil || self.isDoubtful }
    var hasWork: Bool { !self.waiting.isEmpty || (!self.readers.isEmpty && self.needsOpening) }
    var acknowledged: StreamPosition? { self.top }
    /// The room as this owner remembers it.
    private var remembered: StoredRoom? {
        self.top.map { top in
            StoredRoom(
                top: top, bodies: self.tail.since(self.tail.firstOffset - 1) ?? [], firstOffset: self.tail.firstOffset)
        }
    }
    /// All that subscribers may have seen. An append's outcome is unknown to its publishers too: to count it as done is
    /// right, and leaves no offset that could be issued a second time.
    private var possiblySeen: StoredRoom? {
        guard !self.inDoubt.isEmpty, let top = self.top else { return self.remembered }
        var tail = self.tail
        for body in self.inDoubt { _ = tail.append(body) }
        return StoredRoom(
            top: StreamPosition(offset: top.offset + UInt64(self.inDoubt.count), epoch: top.epoch),
            bodies: tail.since(tail.firstOffset - 1) ?? [], firstOffset: tail.firstOffset)
    }

    func isIdle(since instant: MonotonicInstant) -> Bool {
        self.waiting.isEmpty && self.inFlight.isEmpty && self.readers.isEmpty && self.lastUse < instant
    }

    // MARK: Publishing

    func enqueue(_ pending: Pending) {
        self.lastUse = self.loop.now
        self.waiting.append(pending)
    }

    /// Moves what waits, up to the bounds, into flight.
    /// - Returns: nil where nothing waits or the room is not open.
    func beginBatch(maximumCount: Int, maximumBytes: Int) -> RoomAppend? {
        guard let top = self.top, !self.isDoubtful, self.inFlight.isEmpty, !self.waiting.isEmpty else { return nil }
        var count = 0
        var bytes = 0
        while count < self.waiting.count, count < maximumCount {
            bytes += self.waiting[count].bytes
            if count > 0, bytes > maximumBytes { break }
            count += 1
        }
        self.inFlight = Array(self.waiting[..<count])
        self.waiting.removeFirst(count)
        return RoomAppend(
            room: self.name, expected: top, entries: self.inFlight.map(\.entry), retention: self.retention)
    }

    /// The batch is in the log.
    /// - Returns: the bytes that were in flight.
    func appended(_ entries: [AppendedEntry]) -> Int {
        let done = self.inFlight
        self.inFlight = []
        self.inDoubt = []
        self.expireTail()
        for (pending, appended) in zip(done, entries) {
            if appended.isAppended {
                self.top = appended.position
                _ = self.tail.append(pending.entry.body)
            }
            pending.reply(.success(appended))
        }
        self.lastAppend = self.loop.now
        if !self.needsOpening { self.answerReaders() }
        return done.reduce(0) { $0 + $1.bytes }
    }

    /// Nothing of the batch was appended: it goes first in the next one, after the room was read again.
    func requeue() {
        self.isDoubtful = true
        self.waiting.insert(contentsOf: self.inFlight, at: 0)
        self.inFlight = []
    }

    /// The batch failed. Where it may have been appended all the same the room is read again before the next one.
    /// - Returns: the bytes given up.
    func failBatch(_ refusal: RoomRefusal, outcomeUnknown: Bool) -> Int {
        let failed = self.inFlight
        self.inFlight = []
        if outcomeUnknown {
            self.isDoubtful = true
            // Whether an entry with a key or a version used an offset depended on what the engine remembered then.
            let isPlain = failed.allSatisfy { $0.entry.idempotencyKey == nil && $0.entry.version == nil }
            if isPlain, self.inDoubt.isEmpty {
                self.inDoubt = failed.map(\.entry.body)
            } else {
                self.loseProof()
            }
        }
        for pending in failed { pending.reply(.failure(refusal)) }
        if !self.needsOpening { self.answerReaders() }
        return failed.reduce(0) { $0 + $1.bytes }
    }

    /// Everything that waits is refused.
    /// - Returns: the bytes given up.
    func failAll(_ refusal: RoomRefusal) -> Int {
        let failed = self.inFlight + self.waiting
        let readers = self.readers
        self.inFlight = []
        self.waiting = []
        self.readers = []
        for pending in failed { pending.reply(.failure(refusal)) }
        for reader in readers { reader.reply(.failure(refusal)) }
        return failed.reduce(0) { $0 + $1.bytes }
    }

    // MARK: The stored state

    /// What has to happen after the room was read from the engine.
    enum Finding: Sendable {
        case adopted
        /// The engine has less than it acknowledged: put this back.
        case restore(StoredRoom)
        /// What was seen may be lost, and this owner cannot tell: put this in its place, which has a new epoch.
        case renew(StoredRoom)
    }

    /// Another node may have written since: what is remembered proves nothing.
    func loseProof() {
        self.isProven = false
        self.isDoubtful = true
        self.inDoubt = []
    }

    /// The room was read under this owner's fence. Offsets are never issued twice under one epoch: what a proven owner
    /// remembers is put back; where what was seen may be lost and nobody knows it, the room gets a new epoch.
    func found(_ stored: StoredRoom, newEpoch: String) -> Finding {
        if let top = self.top, let remembered = self.remembered, let possiblySeen = self.possiblySeen {
            let isShorter = stored.top.epoch == top.epoch && stored.top.offset < top.offset
            // The engine is another run's, and what is in doubt is not there: it was lost, or never came.
            let lacksDoubtful =
                stored.top.epoch == top.epoch && stored.mayHaveRolledBack
                && stored.top.offset < possiblySeen.top.offset
            let isBlank = stored.top.epoch != top.epoch && stored.top.offset == 0
            // The log came back from before this owner gave the room its epoch.
            let isFormer = stored.top.epoch != top.epoch && stored.mayHaveRolledBack
            if self.isProven {
                if isShorter || lacksDoubtful || isBlank || isFormer { return .restore(possiblySeen) }
            } else if isShorter || isBlank {
                var renewed = remembered
                renewed.top.epoch = isBlank ? stored.top.epoch : newEpoch
                return .renew(renewed)
            }
        }
        if stored.mayHaveRolledBack, !self.isProven {
            var renewed = stored
            renewed.top.epoch = newEpoch
            renewed.mayHaveRolledBack = false
            return .renew(renewed)
        }
        self.adopt(stored)
        return .adopted
    }

    /// The engine has again what `restore` told to put there.
    func restored(_ stored: StoredRoom) { self.adopt(stored) }

    /// The engine has what `renew` told to put there.
    func renewed(_ stored: StoredRoom) { self.adopt(stored) }

    private func adopt(_ stored: StoredRoom) {
        // What is in doubt and not there may still come: an engine that lives may have it to do.
        if stored.top != self.top { self.inDoubt = [] }
        self.top = stored.top
        self.tail.reset(to: StreamPosition(offset: stored.firstOffset - 1, epoch: stored.top.epoch))
        for body in stored.bodies { _ = self.tail.append(body) }
        self.isDoubtful = false
        self.isProven = true
        self.lastAppend = self.loop.now
        self.answerReaders()
    }

    // MARK: Reading

    /// Answers from memory: at once, or when the room has been opened and what is in flight has arrived. Subscribers may
    /// have a publication before its append was answered here; no reader is told an older position than theirs.
    /// - Returns: whether the room has to be opened.
    func read(
        _ filter: HistoryFilter, reply: @escaping @Sendable (Result<RoomHistory, RoomRefusal>) -> Void
    ) -> Bool {
        self.lastUse = self.loop.now
        self.readers.append(Reader(filter: filter, reply: reply))
        self.refreshWhereEmpty()
        guard !self.needsOpening else { return true }
        if self.inFlight.isEmpty { self.answerReaders() }
        return false
    }

    /// The engine soon forgets the epoch of a room that nobody wrote to: where it is asked for, it is opened again in time.
    private func refreshWhereEmpty() {
        guard let top = self.top, top.offset == 0, self.inFlight.isEmpty,
            self.lastAppend + self.retention.emptyTime / 2 < self.loop.now
        else { return }
        self.isDoubtful = true
    }

    /// Publications are gone; epoch and top stay.
    func historyRemoved() { self.tail.removeAll() }

    private func answerReaders() {
        let readers = self.readers
        self.readers = []
        for reader in readers { self.answer(reader) }
    }

    private func answer(_ reader: Reader) {
        self.expireTail()
        guard let stored = self.remembered else { return reader.reply(.failure(.unavailable)) }
        do throws(FanfareError) {
            reader.reply(.success(try RoomHistory(stored, filter: reader.filter)))
        } catch {
            reader.reply(.failure(.refused(error)))
        }
    }

    /// The engine drops a history as a whole some time after its last publication; memory does the same.
    private func expireTail() {
        if self.lastAppend + self.retention.time < self.loop.now { self.historyRemoved() }
    }
}

/// Why a room did not do what it was asked.
package enum RoomRefusal: Error, Sendable, Hashable {
    /// Another node owns the slot: nothing was done. Ask that node.
    case moved
    /// Nothing was done, for now.
    case unavailable
    /// It may or may not have been done.
    case unknownOutcome
    /// The bounded queue is full: nothing was done.
    case overloaded
    /// The caller is told this.
    case refused(FanfareError)
}
