package import FanfareModel

extension MemoryBrokerState {
    /// One room.
    struct StoredLog: Sendable {
        struct UsedKey: Sendable {
            var position: StreamPosition
            var deadline: MonotonicInstant
        }

        var top: StreamPosition
        var log = RoomLog()
        var logDeadline: MonotonicInstant
        var positionDeadline: MonotonicInstant
        var keys: [String: UsedKey] = [:]
        /// Of the last publication that had one.
        var version: PublicationVersion?
        /// The keys in order of their use, for forgetting them.
        var keyOrder = Fifo<String>()
        /// The engine's run in which it was written last.
        var run: UInt64
        /// Where this room stands in the sweep.
        var sweepIndex: Int

        func isForgotten(_ key: String, now: MonotonicInstant) -> Bool {
            self.keys[key].map { $0.deadline <= now } ?? true
        }

        var storedRoom: StoredRoom {
            StoredRoom(
                top: self.top, bodies: self.log.bodies(), firstOffset: self.top.offset + 1 - UInt64(self.log.count))
        }
    }

    /// One room's part of an append, as its subscribers get it.
    package struct Published: Sendable, Hashable {
        package var room: String
        package var batch: PublishedBatch
    }

    package mutating func open(
        _ name: String, fence: Fence, newEpoch: String, retention: Retention, now: MonotonicInstant
    ) throws(EngineError) -> StoredRoom {
        try self.check(fence, slot: Slot(of: name))
        self.expire(name, now: now)
        if let room = self.rooms[name] {
            var stored = room.storedRoom
            stored.mayHaveRolledBack = room.run != self.run
            if room.top.offset == 0 { self.rooms[name]?.positionDeadline = now + retention.emptyTime }
            return stored
        }
        let stored = try self.insert(
            name, top: StreamPosition(offset: 0, epoch: newEpoch), retention: retention, now: now
        ).storedRoom
        self.rooms[name]?.positionDeadline = now + retention.emptyTime
        return stored
    }

    /// - Returns: the outcomes, one per room, and what is to be delivered to the rooms' subscribers, in order.
    package mutating func append(
        _ batch: [RoomAppend], slot: Slot, fence: Fence, now: MonotonicInstant
    ) throws(EngineError) -> (outcomes: [RoomAppendOutcome], published: [Published]) {
        guard batch.allSatisfy({ Slot(of: $0.room) == slot }) else {
            throw EngineError(.rejected, "a room of the batch is not of slot \(slot)")
        }
        try self.check(fence, slot: slot)
        self.sweep(rooms: 2, now: now)
        try self.admit(batch)
        var outcomes: [RoomAppendOutcome] = []
        var published: [Published] = []
        outcomes.reserveCapacity(batch.count)
        for append in batch {
            self.expire(append.room, now: now)
            guard let stored = self.rooms[append.room], stored.top == append.expected else {
                outcomes.append(.mismatch(self.rooms[append.room]?.top))
                continue
            }
            let (entries, bodies) = self.append(append, now: now)
            outcomes.append(.appended(entries))
            if !bodies.isEmpty {
                let batch = PublishedBatch(
                    epoch: append.expected.epoch, firstOffset: append.expected.offset + 1, bodies: bodies)
                published.append(Published(room: append.room, batch: batch))
            }
        }
        return (outcomes, published)
    }

    /// All or nothing: refused before anything is written.
    private func admit(_ batch: [RoomAppend]) throws(EngineError) {
        var bytes = 0
        for append in batch where append.retention.count > 0 {
            for entry in append.entries { bytes += entry.body.count }
        }
        guard self.storedBytes + bytes <= self.limits.bytes else {
            throw EngineError(.overloaded, "the rooms' histories fill the limit of \(self.limits.bytes) bytes")
        }
    }

    /// Appends to a room that exists and whose position was compared. Where no further key can be remembered a publication
    /// with a new one is refused by itself: those with a known key pass.
    private mutating func append(
        _ append: RoomAppend, now: MonotonicInstant
    ) -> (entries: [AppendedEntry], bodies: [Bytes]) {
        // Taken out of the dictionary, so that its arrays are changed in place.
        guard var room = self.rooms.removeValue(forKey: append.room) else { return ([], []) }
        let bytesBefore = room.log.bytes
        var entries: [AppendedEntry] = []
        var bodies: [Bytes] = []
        entries.reserveCapacity(append.entries.count)
        for entry in append.entries {
            if let key = entry.idempotencyKey, let used = room.keys[key], used.deadline > now {
                entries.append(AppendedEntry(position: used.position, outcome: .duplicate))
                continue
            }
            let remembered = append.retention.idempotencyWindow > .zero ? entry.idempotencyKey : nil
            let isFull = self.storedIdempotencyKeys >= self.limits.idempotencyKeys
            if entry.requiresKnownKey || isFull && remembered.map({ room.keys[$0] == nil }) ?? false {
                entries.append(AppendedEntry(position: room.top, outcome: .unknownKey))
                continue
            }
            if let version = entry.version {
                if let last = room.version, !version.isNewer(than: last) {
                    entries.append(AppendedEntry(position: room.top, outcome: .outdated))
                    continue
                }
                room.version = version
            }
            room.top.offset += 1
            room.log.append(entry.body)
            bodies.append(entry.body)
            entries.append(AppendedEntry(position: room.top))
            if let key = remembered {
                let used = StoredLog.UsedKey(
                    position: room.top, deadline: now + append.retention.idempotencyWindow)
                if room.keys.updateValue(used, forKey: key) == nil {
                    room.keyOrder.append(key)
                    self.storedIdempotencyKeys += 1
                }
            }
        }
        if !bodies.isEmpty {
            room.log.trim(count: append.retention.count, bytes: append.retention.bytes)
            room.logDeadline = now + append.retention.time
            room.positionDeadline = now + append.retention.positionTime
            room.run = self.run
            self.storedBytes += room.log.bytes - bytesBefore
        }
        self.rooms[append.room] = room
        return (entries, bodies)
    }

    package mutating func restore(
        _ name: String, to room: StoredRoom, from found: StreamPosition?, fence: Fence, retention: Retention,
        now: MonotonicInstant
    ) throws(EngineError) -> Bool {
        guard room.isContiguous else { throw EngineError(.rejected, "the bodies to restore do not end at the top") }
        try self.check(fence, slot: Slot(of: name))
        self.expire(name, now: now)
        guard self.rooms[name]?.top == found else { return false }
        let bytes = room.bodies.reduce(0) { $0 + $1.count }
        guard self.storedBytes - (self.rooms[name]?.log.bytes ?? 0) + bytes <= self.limits.bytes else {
            throw EngineError(.overloaded, "the rooms' histories fill the limit of \(self.limits.bytes) bytes")
        }
        var stored: StoredLog
        if let known = self.rooms[name] {
            stored = known
        } else {
            stored = try self.insert(name, top: room.top, retention: retention, now: now)
        }
        self.storedBytes -= stored.log.bytes
        stored.top = room.top
        stored.log.removeAll()
        for body in room.bodies { stored.log.append(body) }
        stored.log.trim(count: retention.count, bytes: retention.bytes)
        stored.logDeadline = now + retention.time
        stored.positionDeadline = now + (room.top.offset == 0 ? retention.emptyTime : retention.positionTime)
        stored.run = self.run
        self.storedBytes += stored.log.bytes
        self.rooms[name] = stored
        return true
    }

    package func read(_ name: String, since: UInt64?, limit: Int, now: MonotonicInstant) -> StoredRoom? {
        guard let room = self.rooms[name], room.positionDeadline > now else { return nil }
        let kept = room.logDeadline > now ? room.log.count : 0
        let nothing = StoredRoom(top: room.top, bodies: [], firstOffset: room.top.offset + 1)
        guard let since, since < room.top.offset, kept > 0, limit > 0 else { return nothing }
        let beforeFirst = room.top.offset - UInt64(kept)
        let skip = since > beforeFirst ? Int(since - beforeFirst) : 0
        return StoredRoom(
            top: room.top, bodies: room.log.bodies(skip: skip, limit: limit),
            firstOffset: beforeFirst + UInt64(skip) + 1)
    }

    package mutating func removeHistory(
        _ name: String, fence: Fence, now: MonotonicInstant
    ) throws(EngineError) {
        try self.check(fence, slot: Slot(of: name))
        self.expire(name, now: now)
        guard let room = self.rooms[name] else { return }
        self.storedBytes -= room.log.bytes
        self.rooms[name]?.log.removeAll()
    }
}

// MARK: - Expiry

extension MemoryBrokerState {
    private mutating func insert(
        _ name: String, top: StreamPosition, retention: Retention, now: MonotonicInstant
    ) throws(EngineError) -> StoredLog {
        guard self.rooms.count < self.limits.rooms else {
            throw EngineError(.overloaded, "\(self.limits.rooms) rooms are stored already")
        }
        let room = StoredLog(
            top: top, logDeadline: now + retention.time, positionDeadline: now + retention.positionTime,
            run: self.run, sweepIndex: self.sweepOrder.count)
        self.sweepOrder.append(name)
        self.rooms[name] = room
        return room
    }

    /// Looks at the next `count` rooms for what is over: memory is freed little by little, by the calls that use it.
    package mutating func sweep(rooms count: Int, now: MonotonicInstant) {
        for _ in 0..<min(count, self.sweepOrder.count) {
            if self.sweepCursor >= self.sweepOrder.count { self.sweepCursor = 0 }
            guard self.sweepCursor < self.sweepOrder.count else { return }
            // A removed room's place is taken by another one, which is looked at next.
            if !self.expire(self.sweepOrder[self.sweepCursor], now: now) { self.sweepCursor += 1 }
        }
    }

    /// - Returns: whether the room itself was removed.
    @discardableResult
    private mutating func expire(_ name: String, now: MonotonicInstant) -> Bool {
        guard let room = self.rooms[name] else { return false }
        if room.positionDeadline <= now {
            self.remove(name, room)
            return true
        }
        let logIsOver = room.logDeadline <= now && !room.log.isEmpty
        let keysAreOver = room.keyOrder.first.map { room.isForgotten($0, now: now) } ?? false
        if logIsOver || keysAreOver { self.expireContents(name, now: now) }
        return false
    }

    private mutating func expireContents(_ name: String, now: MonotonicInstant) {
        // Taken out of the dictionary, so that its collections are changed in place.
        guard var room = self.rooms.removeValue(forKey: name) else { return }
        if room.logDeadline <= now {
            self.storedBytes -= room.log.bytes
            room.log.removeAll()
        }
        while let key = room.keyOrder.first, room.isForgotten(key, now: now) {
            room.keyOrder.popFirst()
            room.keys[key] = nil
            self.storedIdempotencyKeys -= 1
        }
        self.rooms[name] = room
    }

    private mutating func remove(_ name: String, _ room: StoredLog) {
        self.storedBytes -= room.log.bytes
        self.storedIdempotencyKeys -= room.keys.count
        self.rooms[name] = nil
        let last = self.sweepOrder.removeLast()
        if last != name {
            self.sweepOrder[room.sweepIndex] = last
            self.rooms[last]?.sweepIndex = room.sweepIndex
        }
    }
}
