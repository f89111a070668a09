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
        if let highest = self.highestFence[slot], highest.number > fence.number {
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
                if let first = self.payloadPositions[payload] {
                    self.violated("\(one.room): \(payload) appended twice, at \(first) and \(position)")
                }
                self.payloadPositions[payload] = position
            }
            self.logs[one.room, default: [:]][one.batch.epoch] = log
        }
    }

    /// A publisher was told that its publication is in the log.
    func acknowledged(_ payload: String, room: String, _ position: StreamPosition) {
        self.acknowledged += 1
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
