import FanfareCore
import FanfareModel
import Synchronization

/// What waits to be handed to one node's receiver. Filled from any thread, emptied on the node's loop: one wake-up per
/// batch. Where the loop falls behind the limits, what waits is dropped as if the link had broken, and the receiver is
/// told so.
final class DeliveryMailbox: Sendable {
    enum Delivery: Sendable {
        case publications(PublishedBatch, room: String)
        case message(Bytes)
        case membershipChanged
        case linkLost
        case linkRestored

        var bytes: Int {
            switch self {
            case .publications(let batch, _): batch.bodies.reduce(64) { $0 + $1.count }
            case .message(let bytes): 64 + bytes.count
            case .membershipChanged, .linkLost, .linkRestored: 64
            }
        }
    }

    private struct State {
        var receiver: (any BrokerReceiver)?
        var waiting: [Delivery] = []
        var waitingBytes = 0
        var isScheduled = false
    }

    private let loop: any Loop
    private let byteLimit: Int
    private let state = Mutex(State())

    init(loop: any Loop, byteLimit: Int) {
        self.loop = loop
        self.byteLimit = byteLimit
    }

    func open(_ receiver: any BrokerReceiver) { self.state.withLock { $0.receiver = receiver } }

    func close() {
        self.state.withLock { state in
            state.receiver = nil
            state.waiting = []
            state.waitingBytes = 0
        }
    }

    var isOpen: Bool { self.state.withLock { $0.receiver != nil } }

    func put(_ delivery: Delivery) {
        let mustSchedule = self.state.withLock { state in
            guard state.receiver != nil else { return false }
            let bytes = delivery.bytes
            if state.waitingBytes + bytes > self.byteLimit, !state.waiting.isEmpty {
                state.waiting = [.linkLost, .linkRestored, .membershipChanged]
                state.waitingBytes = 0
            }
            state.waiting.append(delivery)
            state.waitingBytes += bytes
            defer { state.isScheduled = true }
            return !state.isScheduled
        }
        if mustSchedule { self.loop.execute { self.drain() } }
    }

    private func drain() {
        let (receiver, batch) = self.state.withLock { state in
            defer {
                state.waiting = []
                state.waitingBytes = 0
                state.isScheduled = false
            }
            return (state.receiver, state.waiting)
        }
        guard let receiver else { return }
        for delivery in batch {
            switch delivery {
            case .publications(let batch, let room): receiver.received(batch, room: room)
            case .message(let bytes): receiver.received(message: bytes)
            case .membershipChanged: receiver.membershipChanged()
            case .linkLost: receiver.linkLost()
            case .linkRestored: receiver.linkRestored()
            }
        }
    }
}
