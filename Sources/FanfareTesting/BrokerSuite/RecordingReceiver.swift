package import FanfareEngines
package import FanfareModel
import Synchronization

/// Keeps what a broker delivers.
package final class RecordingReceiver: BrokerReceiver {
    package enum Event: Sendable, Hashable {
        case batch(PublishedBatch, room: String)
        case message(Bytes)
        case membershipChanged
        case linkRestored
        case linkLost
    }

    private let recorded = Mutex<[Event]>([])

    package init() {}

    package var events: [Event] { self.recorded.withLock { $0 } }

    package func received(_ batch: PublishedBatch, room: String) { self.record(.batch(batch, room: room)) }
    package func received(message: Bytes) { self.record(.message(message)) }
    package func membershipChanged() { self.record(.membershipChanged) }
    package func linkRestored() { self.record(.linkRestored) }
    package func linkLost() { self.record(.linkLost) }

    private func record(_ event: Event) { self.recorded.withLock { $0.append(event) } }

    package func batches(_ room: String) -> [PublishedBatch] {
        self.events.compactMap { event in
            if case .batch(let batch, room) = event { batch } else { nil }
        }
    }

    /// What arrived for the room, one per publication.
    package func publications(_ room: String) -> [(position: StreamPosition, body: Bytes)] {
        self.batches(room).flatMap { batch in
            batch.bodies.enumerated().map { index, body in
                (StreamPosition(offset: batch.firstOffset + UInt64(index), epoch: batch.epoch), body)
            }
        }
    }

    package var messages: [Bytes] {
        self.events.compactMap { event in
            if case .message(let bytes) = event { bytes } else { nil }
        }
    }

    package func count(of event: Event) -> Int { self.events.count { $0 == event } }
}
