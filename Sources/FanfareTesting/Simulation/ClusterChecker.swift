import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareProtocol

/// Watches a simulated cluster and says which invariant of docs/architecture.md was broken first.
package final class ClusterChecker: @unchecked Sendable {
    // Safe: used on the simulation's thread alone.
    private struct WriterKey: Hashable {
        let slot: Slot
        let fence: Fence
    }

    package private(set) var violations: [String] = []
    private var writers: [WriterKey: NodeID] = [:]
    private var highestFence: [Slot: Fence] = [:]
    /// room → epoch → payloads by offset, from 1.
    private var logs: [String: [String: [String]]] = [:]
    private var payloadPositions: [String: StreamPosition] = [:]
    /// What publishers were told is in the log.
    private var acknowledgements: [(payload: String, room: String, position: StreamPosition)] = []
    /// How often the engine came back with less than it had.
    package private(set) var losses = 0
    package private(set) var appended = 0
    package private(set) var acknowledged = 0
    package private(set) var delivered = 0

    package init() {}

    package func violated(_ what: String) {
        if self.violations.count < 20 { self.violations.append(what) }
    }

    // MARK: One writer, one order

    func appended(by node: NodeID, slot: Slot, fence: Fence, _ published: [MemoryBrokerState.Published]) {
        let key = WriterKey(slot: slot, fence: fence)
        if let writer = self.writers[key], writer != node {
            self.violated("slot \(slot): nodes \(writer) and \(node) both wrote under fence \(fence)")
        }
        self.writers[key] = node
        if let highest = self.highestFence[slot], highest.generation == fence.generation,
            highest.number > fence.number
        {
            self.violated("slot \(slot): a write under fence \(fence) after one under \(highest)")
        }
        self.highestFence[slot] = fence
        for one in published {
            var log = self.logs[one.room]?[one.batch.epoch] ?? []
            if one.batch.firstOffset != UInt64(log.count) + 1 {
                self.violated(
                    "\(one.room): offset \(one.batch.firstOffset) issued when the top was \(log.count) (epoch \(one.batch.epoch))"
                )
            }
            for body in one.batch.bodies {
                let payload =
                    (try? PublicationBody.decode(body)).map { String(decoding: $0.data, as: UTF8.self) } ?? "?"
                log.append(payload)
                self.appended += 1
                let position = StreamPosition(offset: UInt64(log.count), epoch: one.batch.epoch)
                // What the engine forgot, idempotency keys among it, may come a second time.
                if let first = self.payloadPositions[payload], self.losses == 0 {
                    self.violated("\(one.room): \(payload) appended twice, at \(first) and \(position)")
                }
                self.payloadPositions[payload] = position
            }
            self.logs[one.room, default: [:]][one.batch.epoch] = log
        }
    }

    /// The engine is about to come back with less than it had.
    func engineLost() { self.losses += 1 }

    /// An owner put a room back, or gave it a new epoch.
    func restored(_ room: String, _ stored: StoredRoom) {
        var log = self.logs[room]?[stored.top.epoch] ?? []
        if log.isEmpty { log = Array(repeating: "?", count: Int(stored.firstOffset) - 1) }
        for (index, body) in stored.bodies.enumerated() {
            let payload = (try? PublicationBody.decode(body)).map { String(decoding: $0.data, as: UTF8.self) } ?? "?"
            let offset = Int(stored.firstOffset) + index
            if offset > log.count {
                log.append(payload)
            } else if log[offset - 1] != payload {
                self.violated("\(room): \(payload) put back at \(offset), where \(log[offset - 1]) was")
            }
        }
        if self.losses == 0 { self.violated("\(room): put back to \(stored.top) though nothing was lost") }
        self.logs[room, default: [:]][stored.top.epoch] = log
    }

    /// All is calm: what was acknowledged is in the history, or the room says by its epoch that something was lost.
    func judge(_ state: MemoryBrokerState, now: MonotonicInstant) {
        for one in self.acknowledgements {
            guard let stored = state.read(one.room, since: 0, limit: .max, now: now) else {
                if self.losses == 0 { self.violated("\(one.room): nothing is stored") }
                continue
            }
            guard stored.top.epoch == one.position.epoch else {
                if self.losses == 0 { self.violated("\(one.room): the epoch changed though nothing was lost") }
                continue
            }
            let offset = one.position.offset
            if offset > stored.top.offset {
                self.violated(
                    "\(one.room): \(one.payload) was acknowledged at \(one.position), the top is \(stored.top)")
            } else if offset >= stored.firstOffset {
                let body = stored.bodies[Int(offset - stored.firstOffset)]
                let payload = (try? PublicationBody.decode(body)).map { String(decoding: $0.data, as: UTF8.self) }
                if payload != one.payload {
                    self.violated(
                        "\(one.room): \(one.payload) was acknowledged at \(one.position), \(payload ?? "?") is there")
                }
            }
        }
    }

    /// A publisher was told that its publication is in the log.
    func acknowledged(_ payload: String, room: String, _ position: StreamPosition) {
        self.acknowledged += 1
        self.acknowledgements.append((payload, room, position))
        if self.payload(room, position) != payload {
            self.violated("\(room): \(payload) was acknowledged at \(position) but is not there")
        }
    }

    /// A client was given a publication.
    func delivered(_ payload: String, room: String, _ position: StreamPosition, to client: String) {
        self.delivered += 1
        if self.payload(room, position) != payload {
            self.violated(
                "\(client): was given \(payload) in \(room) at \(position), where the log has \(self.payload(room, position) ?? "nothing")"
            )
        }
    }

    private func payload(_ room: String, _ position: StreamPosition) -> String? {
        guard let log = self.logs[room]?[position.epoch], position.offset >= 1, position.offset <= log.count else {
            return nil
        }
        return log[Int(position.offset) - 1]
    }

    package func top(_ room: String, epoch: String) -> UInt64 { UInt64(self.logs[room]?[epoch]?.count ?? 0) }
}
