import FanfareCore
package import FanfareEngines
package import FanfareModel
import Synchronization

/// Finds a room's owner and asks it, here or on another node; asks again where the slot moved meanwhile.
package final class RoomRouter: Sendable {
    package struct Limits: Sendable, Hashable {
        /// How long a request may look for an owner that acts.
        package var patience: Duration = .seconds(4)
        /// How long another node may take to answer.
        package var answerTime: Duration = .milliseconds(2500)
        /// Publications and reads under way from this node; beyond it they are refused for now.
        package var requests = 50_000

        package init() {}
    }

    private let map: ClusterMap
    private let slots: OwnedSlots
    private let peers: Peers
    private let membership: Membership
    private let broker: any Broker
    private let loop: any Loop
    private let limits: Limits
    private let metrics: FabricMetrics
    private let underWay = Mutex(0)

    init(
        map: ClusterMap, slots: OwnedSlots, peers: Peers, membership: Membership, broker: any Broker, loop: any Loop,
        limits: Limits, metrics: FabricMetrics
    ) {
        self.map = map
        self.slots = slots
        self.peers = peers
        self.membership = membership
        self.broker = broker
        self.loop = loop
        self.limits = limits
        self.metrics = metrics
    }

    /// Appends to the room's log and returns when the engine has it.
    /// - Throws: 1005 where no owner could be reached (nothing was done, or, where an answer was lost, perhaps it was: retry
    ///   with the same idempotency key), 111 where too much waits already.
    package func publish(_ entry: AppendEntry, room: Channel) async throws(FanfareError) -> AppendedEntry {
        try await self.ask(room.slot) { owner async throws(RoomRefusal) in
            if owner == self.map.node {
                return try await withCheckedContinuation { continuation in
                    self.slots.publish(entry, room: room.name, slot: room.slot) { continuation.resume(returning: $0) }
                }.get()
            }
            guard
                case .published(let appended) = try await self.request(.publish(room: room.name, entry), of: owner)
            else { throw .refused(.internal) }
            return appended
        }
    }

    /// Reads from the owner's memory, or, where no owner answers, from the broker.
    package func history(_ filter: HistoryFilter, room: Channel) async throws(FanfareError) -> RoomHistory {
        do throws(FanfareError) {
            return try await self.ask(room.slot, patience: self.limits.patience / 2) {
                owner async throws(RoomRefusal) in
                if owner == self.map.node {
                    return try await withCheckedContinuation { continuation in
                        self.slots.read(filter, room: room.name, slot: room.slot) { continuation.resume(returning: $0) }
                    }.get()
                }
                guard case .history(let page) = try await self.request(.history(room: room.name, filter), of: owner)
                else { throw .refused(.internal) }
                return page
            }
        } catch {
            guard error.isTemporary else { throw error }
            // The owner does not act: what the broker keeps is as good, where it keeps anything.
            let stored: StoredRoom?
            do throws(EngineError) {
                stored = try await self.broker.read(room.name, since: 0, limit: Int.max)
            } catch let failure {
                throw failure.code == .rejected ? .internal : .brokerUnavailable
            }
            guard let stored else { throw error }
            return try RoomHistory(stored, filter: filter)
        }
    }

    package func removeHistory(room: Channel) async throws(FanfareError) {
        try await self.ask(room.slot) { owner async throws(RoomRefusal) in
            if owner == self.map.node {
                return try await self.slots.writer(of: room.slot).removeHistory(room: room.name)
            }
            guard case .done = try await self.request(.removeHistory(room: room.name), of: owner) else {
                throw .refused(.internal)
            }
        }
    }

    private func request(_ request: PeerRequest, of owner: NodeID) async throws(RoomRefusal) -> PeerResponse {
        do throws(PeerFailure) {
            let response = try await self.peers.request(request, of: owner, timeout: self.limits.answerTime)
            switch response {
            case .refused(let refusal): throw PeerFailure.refused(refusal)
            default: return response
            }
        } catch {
            switch error {
            case .unreachable: throw .moved
            case .unavailable: throw .unavailable
            case .timeout: throw .unknownOutcome
            case .overloaded: throw .overloaded
            case .refused(let refusal): throw refusal
            }
        }
    }

    private func ask<Answer: Sendable>(
        _ slot: Slot, patience: Duration? = nil, _ attempt: (NodeID) async throws(RoomRefusal) -> Answer
    ) async throws(FanfareError) -> Answer {
        guard self.enter() else {
            self.metrics.publicationsRefused.increment()
            throw .tooManyRequests
        }
        defer { self.leave() }
        let deadline = self.loop.now + (patience ?? self.limits.patience)
        while true {
            do throws(RoomRefusal) {
                guard let owner = self.map.owner(of: slot) else { throw .moved }
                return try await attempt(owner)
            } catch {
                switch error {
                case .moved:
                    guard self.loop.now < deadline else { throw .brokerUnavailable }
                    await self.membership.refresh()
                    await self.loop.sleep(for: .milliseconds(50))
                case .unavailable, .unknownOutcome: throw .brokerUnavailable
                case .overloaded: throw .tooManyRequests
                case .refused(let told): throw told
                }
            }
        }
    }

    private func enter() -> Bool {
        self.underWay.withLock { count in
            guard count < self.limits.requests else { return false }
            count += 1
            return true
        }
    }

    private func leave() { self.underWay.withLock { $0 -= 1 } }
}
