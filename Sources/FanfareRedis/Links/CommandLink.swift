import FanfareCore
import FanfareEngines
import FanfareLoops
import FanfareModel
import Logging
import Metrics

/// The connection for commands. What is submitted within one turn of the loop leaves in one write; replies come in order.
actor CommandLink: RedisLink {
    typealias Completion = (Result<RedisReply, EngineError>) -> Void

    private struct Request {
        let operation: BrokerOperation
        let begin: MonotonicInstant
        /// Where its first byte is in the connection's output.
        let position: UInt64
        let size: Int
        let completion: Completion
    }

    nonisolated let shared: LinkSurroundings
    nonisolated var unownedExecutor: UnownedSerialExecutor { self.shared.loop.asUnownedSerialExecutor() }

    var dial = DialState()
    private var requests = Fifo<Request>()
    private var requestBytes = 0
    private var breakers: [BrokerWork: CircuitBreaker]
    private var deadlineTimer: ScheduledCall?
    private var handshakesLeft = 0
    /// Names the present server's run: its process, so that a restart and a failover change it.
    private var serverRun: Bytes = []
    /// By the scripts' index; from the present server.
    private var digests = [String](repeating: "", count: RedisScript.all.count)

    init(_ shared: LinkSurroundings) {
        self.shared = shared
        self.breakers = Dictionary(
            uniqueKeysWithValues: BrokerWork.allCases.map { ($0, CircuitBreaker(shared.configuration.breaker)) })
    }

    func stop() { self.halt(LinkFailure("the broker is stopped")) }

    // MARK: Calls

    func perform(
        _ command: RedisCommand, _ operation: BrokerOperation
    ) async throws(EngineError) -> RedisReply {
        let result = await withCheckedContinuation { continuation in
            self.submit(command, operation) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    func perform(
        _ script: RedisScript, keys: [String], arguments: [Bytes], _ operation: BrokerOperation
    ) async throws(EngineError) -> RedisReply {
        var parameters: [Bytes] = []
        parameters.reserveCapacity(keys.count + arguments.count + 3)
        parameters.append(Array(self.digests[script.index].utf8))
        parameters.append(Array(String(keys.count).utf8))
        for key in keys { parameters.append(Array(key.utf8)) }
        parameters.append(contentsOf: arguments)
        parameters.append(self.serverRun)
        let reply = try await self.perform(RedisCommand("EVALSHA", parameters), operation)
        guard case .error = reply else { return reply }
        // The server forgot its scripts (`SCRIPT FLUSH`, failover). EVAL makes it remember this one.
        parameters[0] = Array(script.source.utf8)
        let second = try await self.perform(RedisCommand("EVAL", parameters), operation)
        if case .error(let text) = second { throw EngineError(redisError: text) }
        return second
    }

    /// - Parameter completion: called once, on the loop. An error reply is a failure, but for `NOSCRIPT`.
    func submit(_ command: RedisCommand, _ operation: BrokerOperation, completion: @escaping Completion) {
        if let error = self.refusal(of: command, operation.work) {
            self.shared.metrics.ended(operation, error, after: .zero)
            return completion(.failure(error))
        }
        self.send(command, operation, completion)
    }

    private func refusal(of command: RedisCommand, _ work: BrokerWork) -> EngineError? {
        guard case .up = self.dial.phase else {
            return EngineError(.unavailable, "Redis is out of reach", retryAfter: self.retryAfter)
        }
        let configuration = self.shared.configuration
        guard self.requests.count < configuration.commandLimit,
            self.requests.isEmpty || self.requestBytes + command.encodedSize <= configuration.commandByteLimit
        else {
            return EngineError(.overloaded, "too many commands are under way", retryAfter: .milliseconds(100))
        }
        guard let retryAfter = self.ask(work) else { return nil }
        return EngineError(
            .unavailable, "the circuit breaker of Redis is open (\(work.rawValue))", retryAfter: retryAfter)
    }

    private func send(_ command: RedisCommand, _ operation: BrokerOperation, _ completion: @escaping Completion) {
        guard let connection = self.dial.connection else {
            return completion(.failure(EngineError(.unavailable, "Redis is out of reach")))
        }
        let request = Request(
            operation: operation, begin: self.shared.loop.now, position: connection.writtenBytes,
            size: command.encodedSize, completion: completion)
        self.requests.append(request)
        self.requestBytes += request.size
        connection.write(command)
        if self.deadlineTimer == nil { self.setDeadline(request.begin + self.shared.configuration.commandTimeout) }
    }

    // MARK: Replies

    func received(_ replies: [RedisReply]) {
        for reply in replies {
            guard let request = self.requests.popFirst() else {
                return self.fail(LinkFailure("protocol violation: a reply that nobody waits for"))
            }
            self.requestBytes -= request.size
            self.finish(request, reply)
        }
        self.shared.metrics.inFlight.record(self.requests.count)
    }

    private func finish(_ request: Request, _ reply: RedisReply) {
        let duration = self.shared.loop.now - request.begin
        guard case .error(let text) = reply, !EngineError.isMissingScript(text) else {
            self.tellBreaker(of: request.operation, failed: false)
            self.shared.metrics.ended(request.operation, nil, after: duration)
            return request.completion(.success(reply))
        }
        let error = EngineError(redisError: text)
        self.tellBreaker(of: request.operation, failed: error.code == .unavailable)
        self.shared.metrics.ended(request.operation, error, after: duration)
        request.completion(.failure(error))
        if EngineError.wantsNewLink(text) { self.fail(LinkFailure(text)) }
    }

    // MARK: Deadlines. All commands have the same time, so the oldest one is due first.

    private func setDeadline(_ deadline: MonotonicInstant) {
        self.deadlineTimer = self.shared.loop.schedule(at: deadline) { [weak self] in
            self?.assumeIsolated { $0.deadlineReached() }
        }
    }

    private func deadlineReached() {
        self.deadlineTimer = nil
        guard let oldest = self.requests.first else { return }
        let deadline = oldest.begin + self.shared.configuration.commandTimeout
        if deadline <= self.shared.loop.now {
            self.fail(LinkFailure("no reply within \(self.shared.configuration.commandTimeout)"))
        } else {
            self.setDeadline(deadline)
        }
    }

    // MARK: The link

    /// An attempt to connect is the probe of them all.
    func holdBack() -> Duration? { self.ask(.messages) }

    func shakeHands() {
        self.handshakesLeft = self.loginCommands.count + RedisScript.all.count + 1
        for command in self.loginCommands {
            self.send(command, .handshake) { result in
                switch result {
                case .success: self.handshakeDone()
                case .failure(let error): self.fail(LinkFailure("\(command.name) was refused: \(error.message)"))
                }
            }
        }
        self.send(RedisCommand("INFO", "server"), .handshake) { result in
            let lines = (try? result.get())?.text?.split(whereSeparator: \.isNewline) ?? []
            guard let line = lines.first(where: { $0.hasPrefix("run_id:") }) else {
                return self.fail(LinkFailure("INFO was refused, or names no run"))
            }
            self.serverRun = Array(line.utf8.dropFirst("run_id:".utf8.count).prefix(8))
            self.handshakeDone()
        }
        for script in RedisScript.all {
            self.send(RedisCommand("SCRIPT", "LOAD", script.source), .handshake) { result in
                switch result {
                case .success(let reply):
                    self.digests[script.index] = reply.text ?? ""
                    self.handshakeDone()
                case .failure(let error):
                    self.fail(LinkFailure("script \(script.name) was refused: \(error.message)"))
                }
            }
        }
    }

    private func handshakeDone() {
        self.expectProgress()
        self.handshakesLeft -= 1
        if self.handshakesLeft == 0 { self.established() }
    }

    private func established() {
        guard case .dialing = self.dial.phase else { return }
        if self.dial.number > 1 { self.shared.metrics.commandReconnects.increment() }
        self.becameUp()
        for work in BrokerWork.allCases { self.breakerConnected(work) }
        self.shared.metrics.commandConnected.record(1)
        self.shared.health.commands(nil)
        self.shared.logger.info(
            "Redis: commands connected", metadata: ["url": "\(self.shared.configuration.url)"])
    }

    func ended(_ failure: LinkFailure, wasUp: Bool) {
        self.shared.health.commands(failure.description)
        self.shared.metrics.commandConnected.record(0)
        let isNews = wasUp || self.dial.failures == 0
        self.shared.logger.log(
            level: isNews ? .warning : .debug, wasUp ? "Redis: commands lost" : "Redis: commands cannot connect",
            metadata: ["url": "\(self.shared.configuration.url)", "reason": "\(failure)"])
        self.deadlineTimer?.cancel()
        self.deadlineTimer = nil
        for work in BrokerWork.allCases { self.breakerFailed(work) }
        let sentBytes = self.dial.connection?.sentBytes ?? 0
        let lost = self.requests
        self.requests = Fifo()
        self.requestBytes = 0
        self.shared.metrics.inFlight.record(0)
        let now = self.shared.loop.now
        for request in lost.elements {
            let isUnknown = request.position < sentBytes && !request.operation.isRead
            if request.position < sentBytes, wasUp { self.breakerFailed(request.operation.work) }
            let error = EngineError(
                isUnknown ? .unknownOutcome : .unavailable, "the link to Redis broke: \(failure)",
                retryAfter: self.retryAfter)
            self.shared.metrics.ended(request.operation, error, after: now - request.begin)
            request.completion(.failure(error))
        }
    }

    // MARK: Breaker

    /// The handshake counts as a whole, at its end.
    private func tellBreaker(of operation: BrokerOperation, failed: Bool) {
        guard operation != .handshake else { return }
        if failed { self.breakerFailed(operation.work) } else { self.breakerSucceeded(operation.work) }
    }

    /// - Returns: when to ask again, where the breaker refuses.
    private func ask(_ work: BrokerWork) -> Duration? {
        switch self.breakers[work]?.allow(now: self.shared.loop.now) {
        case nil, .proceed: return nil
        case .probe:
            self.breakerMoved(work)
            return nil
        case .refuse(let retryAfter): return retryAfter
        }
    }

    private func breakerConnected(_ work: BrokerWork) {
        if self.breakers[work]?.replaced() != nil { self.breakerMoved(work) }
    }

    private func breakerSucceeded(_ work: BrokerWork) {
        if self.breakers[work]?.succeeded(now: self.shared.loop.now) != nil { self.breakerMoved(work) }
    }

    private func breakerFailed(_ work: BrokerWork) {
        let transition = self.breakers[work]?.failed(now: self.shared.loop.now, random: self.shared.random())
        if transition != nil { self.breakerMoved(work) }
    }

    private func breakerMoved(_ work: BrokerWork) {
        guard let state = self.breakers[work]?.state else { return }
        self.shared.health.breaker(work, state)
        self.shared.metrics.breakerMoved(work, to: state)
        self.shared.logger.notice(
            "Redis breaker changed", metadata: ["class": "\(work.rawValue)", "to": "\(state.rawValue)"])
    }
}
