import FanfareCore
import FanfareEngines
package import FanfareModel
import Logging
import Synchronization

/// Why another node gave no answer.
package enum PeerFailure: Error, Sendable, Hashable {
    /// Nobody listens under that name: nothing was done.
    case unreachable
    /// The broker does not carry messages now: nothing was done.
    case unavailable
    /// No answer in time: it may or may not have been done.
    case timeout
    /// Too many requests wait for answers: nothing was done.
    case overloaded
    case refused(RoomRefusal)
}

/// Requests to other nodes, and their answers, through the nodes' inboxes.
package final class Peers: Sendable {
    /// A request whose answer is awaited. The answer may come before the request's sender begins to wait.
    private struct Waiting {
        let node: NodeID
        var continuation: CheckedContinuation<Result<PeerResponse, PeerFailure>, Never>?
        var timer: ScheduledCall?
        var early: Result<PeerResponse, PeerFailure>?
    }

    private struct State {
        var lastID: UInt64 = 0
        var waiting: [UInt64: Waiting] = [:]
    }

    private let node: NodeID
    /// Random per process: an answer to the predecessor of a restarted node is not taken for one of this node's.
    private let incarnation: String
    private let broker: any Broker
    private let loop: any Loop
    private let maximumWaiting: Int
    private let outbox: PeerOutbox
    private let state = Mutex(State())

    /// How long an answer is awaited after the link broke: long enough for a link that comes back at once.
    private static let timeWithoutLink: Duration = .milliseconds(500)

    init(
        node: NodeID, incarnation: String, broker: any Broker, loop: any Loop, maximumWaiting: Int = 100_000,
        logger: Logger
    ) {
        self.node = node
        self.incarnation = incarnation
        self.broker = broker
        self.loop = loop
        self.maximumWaiting = maximumWaiting
        self.outbox = PeerOutbox(loop: loop, broker: broker, logger: logger)
    }

    /// Asks another node and waits for its answer.
    /// - Parameter bytes: counts what is sent.
    package func request(
        _ request: PeerRequest, of node: NodeID, timeout: Duration, bytes: Count? = nil
    ) async throws(PeerFailure) -> PeerResponse {
        let id: UInt64? = self.state.withLock { state in
            guard state.waiting.count < self.maximumWaiting else { return nil }
            state.lastID += 1
            state.waiting[state.lastID] = Waiting(node: node)
            return state.lastID
        }
        guard let id else { throw .overloaded }
        var deadline = self.loop.now + timeout
        let message = PeerMessage.request(id: id, from: self.node, incarnation: self.incarnation, request).encoded()
        bytes?.increment(by: message.count)
        let isHeard: Bool
        do throws(EngineError) {
            isHeard = try await self.broker.send(message, to: node)
        } catch {
            // Where the message may have left, its answer may still come.
            guard error.code == .unknownOutcome else {
                self.forget(id)
                throw error.code == .overloaded ? .overloaded : .unavailable
            }
            isHeard = true
            deadline = min(deadline, self.loop.now + Peers.timeWithoutLink)
        }
        guard isHeard else {
            self.forget(id)
            throw .unreachable
        }
        return try await withCheckedContinuation { continuation in
            let early = self.state.withLock { state -> Result<PeerResponse, PeerFailure>? in
                guard let waiting = state.waiting[id] else { return .failure(.timeout) }
                if let early = waiting.early {
                    state.waiting[id] = nil
                    return early
                }
                state.waiting[id]?.continuation = continuation
                return nil
            }
            if let early { return continuation.resume(returning: early) }
            let timer = self.loop.schedule(at: deadline) { self.finish(id, .failure(.timeout)) }
            let isOver = self.state.withLock { state in
                state.waiting[id]?.timer = timer
                return state.waiting[id] == nil
            }
            if isOver { timer.cancel() }
        }.get()
    }

    /// Tells another node something that needs no answer; at most once.
    package func tell(_ request: PeerRequest, node: NodeID) {
        self.outbox.post(
            PeerMessage.request(id: 0, from: self.node, incarnation: self.incarnation, request).encoded(), to: node)
    }

    /// Tells every node, this one too; at most once.
    package func tellAll(_ request: PeerRequest) {
        self.outbox.post(
            PeerMessage.request(id: 0, from: self.node, incarnation: self.incarnation, request).encoded(), to: nil)
    }

    func answer(_ response: PeerResponse, id: UInt64, to node: NodeID, incarnation: String) {
        guard id != 0 else { return }
        self.outbox.post(PeerMessage.response(id: id, to: incarnation, response).encoded(), to: node, attempts: 10)
    }

    func received(_ response: PeerResponse, id: UInt64, incarnation: String) {
        guard incarnation == self.incarnation else { return }
        self.finish(id, .success(response))
    }

    /// Nodes left the view: what was asked of them will not be answered.
    func viewChanged(_ view: View) {
        let members = Set(view.members.map(\.node))
        let lost = self.state.withLock { state in
            state.waiting.filter { !members.contains($0.value.node) }.map(\.key).sorted()
        }
        for id in lost { self.finish(id, .failure(.timeout)) }
    }

    /// The link broke: whoever waits for an answer is told soon, unless it still comes.
    func linkLost() {
        let last = self.state.withLock { $0.lastID }
        self.loop.schedule(after: Peers.timeWithoutLink) {
            let left = self.state.withLock { $0.waiting.keys.filter { $0 <= last }.sorted() }
            for id in left { self.finish(id, .failure(.timeout)) }
        }
    }

    private func forget(_ id: UInt64) { self.state.withLock { $0.waiting[id] = nil } }

    private func finish(_ id: UInt64, _ result: Result<PeerResponse, PeerFailure>) {
        let waiting: Waiting? = self.state.withLock { state in
            guard let waiting = state.waiting[id] else { return nil }
            guard waiting.continuation != nil else {
                state.waiting[id]?.early = result
                return nil
            }
            state.waiting[id] = nil
            return waiting
        }
        waiting?.timer?.cancel()
        waiting?.continuation?.resume(returning: result)
    }
}

/// Sends what needs no waiting for, in the order in which it was given.
actor PeerOutbox {
    nonisolated let unownedExecutor: UnownedSerialExecutor
    private let loop: any Loop
    private let broker: any Broker
    private let logger: Logger
    /// Messages that wait for another attempt.
    private var retries = 0

    private static let retryLimit = 10_000
    private static let pause: Duration = .milliseconds(100)

    init(loop: any Loop, broker: any Broker, logger: Logger) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.loop = loop
        self.broker = broker
        self.logger = logger
    }

    /// - Parameters:
    ///   - node: nil for all.
    ///   - attempts: above 1 for what may arrive twice and in another order: answers, for which somebody waits while this
    ///     node's link is cut and comes back.
    nonisolated func post(_ message: Bytes, to node: NodeID?, attempts: Int = 1) {
        self.loop.execute { self.onThisLoop { $0.begin(message, to: node, attempts) } }
    }

    private func begin(_ message: Bytes, to node: NodeID?, _ attempts: Int) {
        self.loop.task {
            var attempt = 1
            while await !self.isSent(message, to: node), attempt < attempts, self.retries < PeerOutbox.retryLimit {
                attempt += 1
                self.retries += 1
                await self.loop.sleep(for: PeerOutbox.pause)
                self.retries -= 1
            }
        }
    }

    /// - Returns: false where nobody may have heard it and it makes sense to try again.
    private func isSent(_ message: Bytes, to node: NodeID?) async -> Bool {
        do throws(EngineError) {
            if let node { return try await self.broker.send(message, to: node) }
            try await self.broker.sendToAll(message)
            return true
        } catch {
            self.logger.debug(
                "a message may be lost", metadata: ["peer": "\(node?.rawValue ?? "all")", "error": "\(error)"])
            return error.code != .unavailable && error.code != .unknownOutcome
        }
    }
}
