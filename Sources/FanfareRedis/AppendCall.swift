import FanfareEngines
import FanfareModel

/// One call of the append script: its parameters, and what its answer means.
struct AppendCall {
    private(set) var keys: [String]
    private(set) var arguments: [Bytes]
    private let entryCounts: [Int]

    /// - Throws: `.rejected` where a room is of another slot, or the batch is too large for one script.
    init(_ batch: [RoomAppend], slot: Slot, fence: Fence, keys names: RedisKeys) throws(EngineError) {
        guard batch.allSatisfy({ Slot(of: $0.room) == slot }) else {
            throw EngineError(.rejected, "a room of the batch is not of slot \(slot)")
        }
        let entryCount = batch.reduce(0) { $0 + $1.entries.count }
        let bytes = batch.reduce(0) { $0 + $1.entries.reduce(0) { $0 + $1.body.count } }
        guard entryCount <= RedisBroker.appendEntryLimit, bytes <= RedisBroker.appendByteLimit else {
            throw EngineError(
                .rejected,
                "a batch has at most \(RedisBroker.appendEntryLimit) publications and \(RedisBroker.appendByteLimit) bytes"
            )
        }
        self.entryCounts = batch.map(\.entries.count)
        self.keys = [names.fence(slot)]
        self.arguments = (RedisBroker.words(fence) + [String(batch.count)]).map { Array($0.utf8) }
        self.keys.reserveCapacity(1 + 2 * batch.count)
        self.arguments.reserveCapacity(3 + 9 * batch.count + 2 * entryCount)
        var keyed: [String] = []
        for append in batch {
            self.keys.append(names.meta(append.room, slot))
            self.keys.append(names.history(append.room, slot))
            let retention = append.retention
            let words = [
                names.roomChannel(append.room, slot), append.expected.epoch, String(append.expected.offset),
                String(max(0, retention.count)), String(max(0, retention.bytes)),
                RedisBroker.milliseconds(retention.time), RedisBroker.milliseconds(retention.positionTime),
                retention.idempotencyWindow > .zero ? RedisBroker.milliseconds(retention.idempotencyWindow) : "0",
                String(append.entries.count),
            ]
            for word in words { self.arguments.append(Array(word.utf8)) }
            for entry in append.entries {
                self.arguments.append(AppendCall.flags(of: entry))
                self.arguments.append(entry.body)
                if let version = entry.version {
                    self.arguments.append(Array(String(version.number).utf8))
                    self.arguments.append(Array(version.epoch.utf8))
                }
                if let key = entry.idempotencyKey { keyed.append(names.idempotency(append.room, key, slot)) }
            }
        }
        self.keys += keyed
        self.epochs = batch.map(\.expected.epoch)
    }

    private let epochs: [String]

    private static func flags(of entry: AppendEntry) -> Bytes {
        var flags = 0
        if entry.idempotencyKey != nil { flags += 1 }
        if entry.requiresKnownKey { flags += 2 }
        if entry.version != nil { flags += 4 }
        return Array(String(flags).utf8)
    }

    /// - Returns: nil where the reply is not what the script returns.
    func outcomes(_ reply: RedisReply) -> [RoomAppendOutcome]? {
        guard let rooms = reply.elements, rooms.count == self.entryCounts.count else { return nil }
        var outcomes: [RoomAppendOutcome] = []
        for (index, room) in rooms.enumerated() {
            guard let parts = room.elements, let outcome = self.outcome(parts, index) else { return nil }
            outcomes.append(outcome)
        }
        return outcomes
    }

    private func outcome(_ parts: [RedisReply], _ index: Int) -> RoomAppendOutcome? {
        if parts == [.integer(0)] { return .mismatch(nil) }
        if parts.count == 3, parts[0] == .integer(0) {
            return RedisBroker.position(parts[1], parts[2]).map { .mismatch($0) }
        }
        guard parts.count == 2, parts[0] == .integer(1), let replies = parts[1].elements,
            replies.count == self.entryCounts[index]
        else { return nil }
        let entries = replies.compactMap { self.entry($0, epoch: self.epochs[index]) }
        return entries.count == replies.count ? .appended(entries) : nil
    }

    private func entry(_ reply: RedisReply, epoch: String) -> AppendedEntry? {
        guard let text = reply.text else { return nil }
        func entry(_ offset: Substring, _ epoch: String, _ outcome: AppendedEntry.Outcome) -> AppendedEntry? {
            UInt64(offset).map { AppendedEntry(position: StreamPosition(offset: $0, epoch: epoch), outcome: outcome) }
        }
        switch text.first {
        case "=":
            let earlier = text.dropFirst().split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            return earlier.count == 2 ? entry(earlier[0], String(earlier[1]), .duplicate) : nil
        case "!": return entry(text.dropFirst(), epoch, .unknownKey)
        case "<": return entry(text.dropFirst(), epoch, .outdated)
        default: return entry(text[...], epoch, .appended)
        }
    }
}
