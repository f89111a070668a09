import FanfareCore
import FanfareLoops
import FanfareModel
import Logging

/// How far a link is.
enum LinkPhase {
    /// Not started, or stopped for good.
    case stopped
    case waiting(until: MonotonicInstant)
    /// Resolving the name, connecting, or in the handshake.
    case dialing
    case up
}

/// What a link remembers of its attempts to connect.
struct DialState {
    var phase = LinkPhase.stopped
    /// The number of the attempt, and of its connection: what is late from an earlier one is told by it.
    var number: UInt64 = 0
    /// Failures since the link was up.
    var failures = 0
    /// The name server has not answered yet; not asked twice at a time.
    var isResolving = false
    /// Of the phase.
    var timer: ScheduledCall?
    var connection: RedisConnection?
}

/// What the command link and the subscription link have in common: dialing and dialing again. Actors of the loop, so that
/// the connection enters them without a hop.
protocol RedisLink: Actor, RedisConnectionOwner {
    nonisolated var shared: LinkSurroundings { get }
    var dial: DialState { get set }
    /// Connected: begin the handshake.
    func shakeHands()
    func received(_ replies: [RedisReply])
    /// The attempt failed or the link broke. The connection is closed; the next attempt is scheduled afterwards.
    func ended(_ failure: LinkFailure, wasUp: Bool)
    /// How long to wait with an attempt that is due; nil to go on.
    func holdBack() -> Duration?
}

/// What links are made with.
struct LinkSurroundings: Sendable {
    let configuration: RedisConfiguration
    let loop: EdgeLoop
    let random: @Sendable () -> UInt64
    let health: LinkHealth
    let metrics: RedisMetrics
    let logger: Logger
    /// Shown by the server's `CLIENT LIST`.
    let clientName: String
}

extension RedisLink {
    func start() {
        guard case .stopped = self.dial.phase else { return }
        self.wait(.zero)
    }

    /// The first commands on every connection.
    nonisolated var loginCommands: [RedisCommand] {
        var commands: [RedisCommand] = []
        let url = self.shared.configuration.url
        if let password = url.password {
            commands.append(
                url.user.isEmpty ? RedisCommand("AUTH", password) : RedisCommand("AUTH", url.user, password))
        }
        if url.database != 0 { commands.append(RedisCommand("SELECT", String(url.database))) }
        commands.append(RedisCommand("CLIENT", "SETNAME", self.shared.clientName))
        return commands
    }

    // MARK: Phases

    private func wait(_ delay: Duration) {
        let due = self.shared.loop.now + delay
        self.dial.phase = .waiting(until: due)
        self.setTimer(at: due) { $0.dialNow() }
    }

    private func dialNow() {
        if let delay = self.holdBack() { return self.wait(delay) }
        self.dial.phase = .dialing
        self.dial.number += 1
        let number = self.dial.number
        self.expectProgress()
        guard !self.dial.isResolving else { return }
        self.dial.isResolving = true
        let url = self.shared.configuration.url
        NameResolver.resolve(url.host, port: url.port, on: self.shared.loop) { [weak self] result in
            self?.assumeIsolated { $0.resolved(result, number) }
        }
    }

    private func resolved(_ result: Result<[SocketAddress], LinkFailure>, _ number: UInt64) {
        self.dial.isResolving = false
        guard number == self.dial.number, case .dialing = self.dial.phase else { return }
        switch result {
        case .failure(let failure): self.fail(failure)
        case .success(let addresses):
            do {
                let connection = try RedisConnection(
                    number, loop: self.shared.loop, owner: self,
                    replyByteLimit: self.shared.configuration.replyByteLimit)
                self.dial.connection = connection
                connection.connect(to: addresses)
            } catch {
                self.fail(LinkFailure(error.description))
            }
        }
    }

    /// The attempt fails unless the next call of this, or of `becameUp`, comes in time.
    func expectProgress() {
        let timeout = self.shared.configuration.connectTimeout
        self.setTimer(at: self.shared.loop.now + timeout) { link in
            link.fail(LinkFailure("no answer from \(link.shared.configuration.url) within \(timeout)"))
        }
    }

    func becameUp() {
        self.dial.timer?.cancel()
        self.dial.timer = nil
        self.dial.phase = .up
        self.dial.failures = 0
    }

    /// Tears the connection down and schedules the next attempt.
    func fail(_ failure: LinkFailure) {
        let wasUp: Bool
        switch self.dial.phase {
        case .stopped, .waiting: return
        case .dialing: wasUp = false
        case .up: wasUp = true
        }
        let connection = self.dial.connection
        // The phase first: what is told below must not find the link up.
        self.wait(
            self.shared.configuration.reconnectBackoff.delay(
                attempt: self.dial.failures, random: self.shared.random()))
        self.ended(failure, wasUp: wasUp)
        connection?.close()
        if self.dial.connection === connection { self.dial.connection = nil }
        self.dial.failures += 1
    }

    /// Ends the link for good.
    func halt(_ failure: LinkFailure) {
        self.dial.timer?.cancel()
        self.dial.timer = nil
        if case .stopped = self.dial.phase { return }
        let wasUp = if case .up = self.dial.phase { true } else { false }
        self.dial.phase = .stopped
        self.ended(failure, wasUp: wasUp)
        self.dial.connection?.close()
        self.dial.connection = nil
    }

    private func setTimer(at deadline: MonotonicInstant, _ body: @escaping @Sendable (isolated Self) -> Void) {
        self.dial.timer?.cancel()
        self.dial.timer = self.shared.loop.schedule(at: deadline) { [weak self] in
            self?.assumeIsolated { body($0) }
        }
    }

    /// When it makes sense to try again.
    var retryAfter: Duration {
        switch self.dial.phase {
        case .waiting(let until): max(until - self.shared.loop.now, .milliseconds(10))
        case .dialing, .up: .milliseconds(50)
        case .stopped: .seconds(1)
        }
    }

    // MARK: The connection's calls, on the loop

    nonisolated func opened(_ connection: UInt64) {
        self.assumeIsolated { link in
            guard link.dial.number == connection, case .dialing = link.dial.phase else { return }
            link.expectProgress()
            link.shakeHands()
        }
    }

    nonisolated func received(_ replies: [RedisReply], _ connection: UInt64) {
        self.assumeIsolated { link in
            guard link.dial.number == connection, link.dial.connection != nil else { return }
            link.received(replies)
        }
    }

    nonisolated func failed(_ failure: LinkFailure, _ connection: UInt64) {
        self.assumeIsolated { link in
            guard link.dial.number == connection else { return }
            link.fail(failure)
        }
    }
}
