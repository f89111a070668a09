import FanfareCore
import FanfareEngines
package import FanfareModel
import Synchronization

/// The writers of the slots that this node owns, made when first needed. Each lives on the loop that its slot falls to.
package final class OwnedSlots: Sendable {
    private let writers = Mutex<[Slot: SlotWriter]>([:])
    private let make: @Sendable (Slot) -> SlotWriter

    init(make: @escaping @Sendable (Slot) -> SlotWriter) { self.make = make }

    package func writer(of slot: Slot) -> SlotWriter {
        self.writers.withLock { writers in
            if let writer = writers[slot] { return writer }
            let writer = self.make(slot)
            writers[slot] = writer
            return writer
        }
    }

    package var all: [SlotWriter] {
        self.writers.withLock { writers in writers.values.sorted { $0.slot < $1.slot } }
    }

    /// Queues on the slot's loop; `reply` is called there. Calls from one loop keep their order.
    func publish(
        _ entry: AppendEntry, room: String, slot: Slot,
        reply: @escaping @Sendable (Result<AppendedEntry, RoomRefusal>) -> Void
    ) {
        let writer = self.writer(of: slot)
        writer.loop.execute { writer.onThisLoop { $0.publish(entry, room: room, reply: reply) } }
    }

    func read(
        _ filter: HistoryFilter, room: String, slot: Slot,
        reply: @escaping @Sendable (Result<RoomHistory, RoomRefusal>) -> Void
    ) {
        let writer = self.writer(of: slot)
        writer.loop.execute { writer.onThisLoop { $0.read(filter, room: room, reply: reply) } }
    }

    /// The view changed: slots that went to other nodes are given up.
    func viewChanged(_ map: ClusterMap) {
        let lost = self.writers.withLock { writers in
            let lost = writers.filter { !map.owns($0.key) }
            for slot in lost.keys { writers[slot] = nil }
            return lost.values
        }
        for writer in lost {
            writer.loop.execute { writer.onThisLoop { $0.disown() } }
        }
    }

    /// Called now and then: memory of idle rooms is given back.
    func sweep(isFull: Bool = false) {
        for writer in self.all {
            writer.loop.execute { writer.onThisLoop { $0.sweep(isFull: isFull) } }
        }
    }
}
