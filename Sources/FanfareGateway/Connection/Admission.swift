internal import FanfareCore
internal import FanfareModel
internal import Synchronization

/// Who may connect: shared by the loops. Refusing early with a delay is cheaper than failing late.
final class Admission: Sendable {
    enum Decision: Hashable {
        case admitted
        /// The node is full: 503.
        case full
        /// This address connects too often: 429, with the seconds to wait.
        case tooOften(retryAfterSeconds: Int)
    }

    private struct State {
        var buckets: [[UInt8]: TokenBucket] = [:]
    }

    private let options: ConnectionOptions
    private let state = Mutex(State())
    private let open = Atomic<Int>(0)
    private let pending = Atomic<Int>(0)
    private let http = Atomic<Int>(0)

    init(options: ConnectionOptions) { self.options = options }

    var openConnections: Int { self.open.load(ordering: .relaxed) }
    var pendingConnections: Int { self.pending.load(ordering: .relaxed) }
    var httpConnections: Int { self.http.load(ordering: .relaxed) }

    /// A connection was accepted whose request is not known yet.
    func beginPending() -> Bool { Admission.take(self.pending, upTo: self.options.maximumPending) }
    func endPending() { self.pending.subtract(1, ordering: .relaxed) }

    func beginHTTP() -> Bool { Admission.take(self.http, upTo: self.options.maximumHTTPConnections) }
    func endHTTP() { self.http.subtract(1, ordering: .relaxed) }

    /// A WebSocket is asked for. Every `.admitted` is ended by `endConnection`.
    func beginConnection(from peer: PeerAddress, now: MonotonicInstant) -> Decision {
        guard Admission.take(self.open, upTo: self.options.maximumConnections) else { return .full }
        if peer.isLoopback && self.options.loopbackIsFree { return .admitted }
        switch self.takeToken(of: peer, now: now) {
        case .allowed: return .admitted
        case .refused(let delay):
            self.endConnection()
            return .tooOften(retryAfterSeconds: max(1, Int((delay.milliseconds + 999) / 1000)))
        }
    }

    func endConnection() { self.open.subtract(1, ordering: .relaxed) }

    private func takeToken(of peer: PeerAddress, now: MonotonicInstant) -> TokenBucket.Decision {
        self.state.withLock { state in
            var bucket =
                state.buckets[peer.group]
                ?? TokenBucket(
                    rate: self.options.connectsPerAddress, burst: self.options.connectBurstPerAddress, now: now)
            let decision = bucket.take(now: now)
            if state.buckets[peer.group] == nil && state.buckets.count >= self.options.maximumTrackedAddresses {
                Admission.makeRoom(&state, now: now)
            }
            state.buckets[peer.group] = bucket
            return decision
        }
    }

    /// Forgets who has not connected for a while; where that is nobody, a quarter of all, so that the cost of a flood of
    /// addresses stays bounded.
    private static func makeRoom(_ state: inout State, now: MonotonicInstant) {
        let before = state.buckets.count
        state.buckets = state.buckets.filter { entry in
            var bucket = entry.value
            return !bucket.isFull(now: now)
        }
        guard state.buckets.count > before * 3 / 4 else { return }
        for key in Array(state.buckets.keys.prefix(before / 4)) { state.buckets[key] = nil }
    }

    private static func take(_ counter: borrowing Atomic<Int>, upTo limit: Int) -> Bool {
        guard counter.add(1, ordering: .relaxed).newValue > limit else { return true }
        counter.subtract(1, ordering: .relaxed)
        return false
    }
}
