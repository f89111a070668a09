import FanfareEngines
import FanfareModel
import FanfareCore
import Synchronization

/// Which loops of this node have subscribers of which rooms: the node subscribes to a room at the broker as long as one
/// loop has. Batches go from the broker's executor to those loops, one hop each.
package actor RoomSubscriptions {
    package nonisolated let unownedExecutor: UnownedSerialExecutor
    private let loop: any Loop
    private let broker: any Broker

    private enum Subscription {
        case underWay([CheckedContinuation<Result<Void, FanfareError>, Never>])
        case inPlace
    }

    private nonisolated let routes = Mutex<[String: [EdgeHub]]>([:])
    private var subscribed: [String: Subscription] = [:]

    init(loop: any Loop, broker: any Broker) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.loop = loop
        self.broker = broker
    }

    package nonisolated var roomCount: Int { self.routes.withLock { $0.count } }

    /// Called on the broker's executor.
    nonisolated func route(_ batch: PublishedBatch, room: String) {
        for hub in self.routes.withLock({ $0[room] ?? [] }) {
            hub.loop.execute { hub.onThisLoop { $0.deliver(batch, room: room) } }
        }
    }

    /// From now on batches of the room reach the hub; returns when the broker is subscribed.
    /// - Throws: 1005 where the broker is away.
    func attach(_ room: String, hub: EdgeHub) async throws(FanfareError) {
        self.routes.withLock { routes in
            if routes[room]?.contains(where: { $0 === hub }) != true { routes[room, default: []].append(hub) }
        }
        switch self.subscribed[room] {
        case .inPlace:
            return
        case .underWay:
            try await withCheckedContinuation { continuation in
                // Getting here may have been a suspension: what was under way may be over.
                switch self.subscribed[room] {
                case .underWay(let others): self.subscribed[room] = .underWay(others + [continuation])
                case .inPlace: continuation.resume(returning: .success(()))
                case nil: continuation.resume(returning: .failure(.brokerUnavailable))
                }
            }.get()
        case nil:
            self.subscribed[room] = .underWay([])
            let result: Result<Void, FanfareError>
            do throws(EngineError) {
                try await self.broker.subscribe(room: room)
                result = .success(())
            } catch {
                result = .failure(.brokerUnavailable)
            }
            guard case .underWay(let others) = self.subscribed[room] else { return try result.get() }
            if case .success = result {
                self.subscribed[room] = .inPlace
                self.unsubscribeIfUnused(room)
            } else {
                self.subscribed[room] = nil
            }
            for other in others { other.resume(returning: result) }
            try result.get()
        }
    }

    nonisolated func detach(_ room: String, hub: EdgeHub) {
        self.routes.withLock { routes in
            routes[room]?.removeAll { $0 === hub }
            if routes[room]?.isEmpty == true { routes[room] = nil }
        }
        self.loop.execute { self.onThisLoop { $0.unsubscribeIfUnused(room) } }
    }

    private func unsubscribeIfUnused(_ room: String) {
        guard case .inPlace = self.subscribed[room], self.routes.withLock({ $0[room] }) == nil else { return }
        self.subscribed[room] = nil
        self.broker.unsubscribe(room: room)
    }
}
