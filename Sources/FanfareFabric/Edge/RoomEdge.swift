import FanfareCore
import FanfareEngines
package import FanfareModel
package import FanfareProtocol

/// One session's place in a room's edge.
package struct Subscriber: Sendable {
    package let session: Session
    package let transport: any SessionTransport
    package let variant: ProtocolVariant
    package let info: ClientInfo
    /// The offset of the last publication that it was given.
    var offset: UInt64 = 0

    package init(session: Session, transport: any SessionTransport, variant: ProtocolVariant, info: ClientInfo) {
        self.session = session
        self.transport = transport
        self.variant = variant
        self.info = info
    }
}

/// What a subscriber was told at the moment from which on it is given publications.
package struct SubscribeOutcome: Sendable {
    /// Where the stream stands for this subscriber: it is given what comes after.
    package var position: StreamPosition
    /// What it missed, where it asked and all of it was there; nil where it did not ask or something is gone.
    package var recovered: [Publication]?
}

/// Someone who waits to become a subscriber.
struct SubscribeRequestInEdge {
    let subscriber: Subscriber
    let recovery: StreamPosition?
    /// Called once, at the very moment of activation. Returns false where the subscriber is no longer wanted.
    let completion: @Sendable (Result<SubscribeOutcome, FanfareError>) -> Bool
    var attempts = 0
}

/// A room's delivery side on one loop: its subscribers in contiguous storage, and how far they have been served.
/// Confined to its `EdgeHub`.
final class RoomEdge {
    enum State {
        /// Subscribing at the broker and reading the position.
        case activating
        case live
        /// Something is missing: what arrives meanwhile waits in `held`.
        case repairing
    }

    /// How many batches wait during activation or repair; what is beyond is read from the log later.
    static let heldLimit = 1024
    static let heldBytesLimit = 4 << 20

    let channel: Channel
    var state = State.activating
    var cursor = DeliveryCursor(epoch: "", last: 0)
    /// The last bodies, for those who come back soon.
    var tail: HistoryTail<Bytes>
    private(set) var subscribers: [Subscriber] = []
    private var places: [ClientID: Int] = [:]
    var waiting: [SubscribeRequestInEdge] = []
    private(set) var held: [PublishedBatch] = []
    private var heldBytes = 0
    /// Something did not find room in `held`: the log has it.
    private var hasDropped = false
    /// How many of `held` came before the log was read last.
    private var heldBeforeRead = 0
    /// Repairs since the last batch that came in order.
    var repairsInARow = 0
    /// The timer that ends an edge without subscribers.
    var lingering: ScheduledCall?
    /// When the position was last known to be the log's.
    var lastChecked: MonotonicInstant
    private var variantCounts = [0, 0]

    init(channel: Channel, tailCount: Int, tailBytes: Int, now: MonotonicInstant) {
        self.channel = channel
        self.tail = HistoryTail(
            top: StreamPosition(offset: 0, epoch: ""), maximumCount: tailCount, maximumBytes: tailBytes)
        self.lastChecked = now
    }

    var isUnused: Bool { self.subscribers.isEmpty && self.waiting.isEmpty }

    func hold(_ batch: PublishedBatch) {
        let bytes = batch.bodies.reduce(0) { $0 + $1.count }
        guard self.held.count < RoomEdge.heldLimit, self.heldBytes + bytes <= RoomEdge.heldBytesLimit else {
            self.hasDropped = true
            return
        }
        self.held.append(batch)
        self.heldBytes += bytes
    }

    /// The log is about to be read: what is held now is older than what the answer says.
    func beginRead() { self.heldBeforeRead = self.held.count }

    /// What came since it was held, without what the log, read later, knows nothing of: of an epoch that is over, or, after
    /// some attempts, ahead of the log.
    /// - Returns: also, whether something was dropped and has to be read.
    func takeHeld() -> (batches: [PublishedBatch], isIncomplete: Bool) {
        let position = self.cursor.position
        let held = self.held.enumerated().filter { index, batch in
            guard index < self.heldBeforeRead else { return true }
            guard batch.epoch == position.epoch else { return false }
            return self.repairsInARow < 5 || batch.firstOffset <= position.offset + 1
        }
        let isIncomplete = self.hasDropped
        self.held = []
        self.heldBytes = 0
        self.heldBeforeRead = 0
        self.hasDropped = false
        return (held.map(\.element), isIncomplete)
    }

    func reset(to position: StreamPosition) {
        self.cursor.reset(to: position)
        self.tail.reset(to: position)
    }

    func add(_ subscriber: Subscriber, at offset: UInt64) {
        var subscriber = subscriber
        subscriber.offset = offset
        if let place = self.places[subscriber.info.client] {
            self.variantCounts[self.subscribers[place].variant.index] -= 1
            self.subscribers[place] = subscriber
        } else {
            self.places[subscriber.info.client] = self.subscribers.count
            self.subscribers.append(subscriber)
        }
        self.variantCounts[subscriber.variant.index] += 1
    }

    /// - Returns: whether it was there.
    func remove(_ client: ClientID) -> Bool {
        guard let place = self.places.removeValue(forKey: client) else { return false }
        self.variantCounts[self.subscribers[place].variant.index] -= 1
        let last = self.subscribers.removeLast()
        if place < self.subscribers.count {
            self.subscribers[place] = last
            self.places[last.info.client] = place
        }
        return true
    }

    func removeAll() -> [Subscriber] {
        let removed = self.subscribers
        self.subscribers = []
        self.places = [:]
        self.variantCounts = [0, 0]
        return removed
    }

    /// Hands consecutive publications to every subscriber who is at their beginning; one frame serves all of a variant.
    /// - Parameter frame: encodes publications from an index on.
    /// - Returns: how many deliveries that were, and who cannot be served because something is missing for it.
    func deliver(
        first: UInt64, count: Int, frame: (_ variant: ProtocolVariant, _ from: Int) -> SharedFrame
    ) -> (deliveries: Int, left: [Subscriber]) {
        let last = first + UInt64(count) - 1
        var frames: [SharedFrame?] = [nil, nil]
        for variant in ProtocolVariant.allCases where self.variantCounts[variant.index] > 0 {
            frames[variant.index] = frame(variant, 0)
        }
        var left: [Subscriber] = []
        var deliveries = 0
        for index in self.subscribers.indices {
            let offset = self.subscribers[index].offset
            if offset == first - 1 {
                // The usual case: the subscriber is where the edge is.
                guard let shared = frames[self.subscribers[index].variant.index] else { continue }
                self.subscribers[index].offset = last
                self.subscribers[index].transport.send(shared)
                deliveries += count
            } else if offset >= last {
                continue
            } else if offset >= first {
                let from = Int(offset - first + 1)
                self.subscribers[index].offset = last
                self.subscribers[index].transport.send(frame(self.subscribers[index].variant, from))
                deliveries += count - from
            } else {
                left.append(self.subscribers[index])
            }
        }
        return (deliveries, left)
    }

    /// Hands a publication without an offset to every subscriber.
    /// - Returns: how many deliveries that were.
    func passOn(frame: (ProtocolVariant) -> SharedFrame) -> Int {
        var frames: [SharedFrame?] = [nil, nil]
        for variant in ProtocolVariant.allCases where self.variantCounts[variant.index] > 0 {
            frames[variant.index] = frame(variant)
        }
        for subscriber in self.subscribers {
            if let frame = frames[subscriber.variant.index] { subscriber.transport.send(frame) }
        }
        return self.subscribers.count
    }
}

extension ProtocolVariant {
    var index: Int { self == .json ? 0 : 1 }
}
