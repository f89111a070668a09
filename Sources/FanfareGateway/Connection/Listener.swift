internal import CEpoll
internal import FanfareCore
package import FanfareLoops
internal import FanfareModel
internal import FanfareProtocol
internal import Glibc
package import Logging

/// The node's port: accepts on one loop and spreads the connections over all of them in turn, so that long-lived
/// connections are even however they came.
///
/// Used on its first loop's thread alone, hence safe to share (`@unchecked`); what other threads call hops there.
package final class Listener: DescriptorHandler, @unchecked Sendable {
    /// Connections accepted before other work gets its turn.
    private static let acceptsPerTurn = 256
    /// How long accepting pauses when the process has no descriptors left.
    private static let pause: Duration = .milliseconds(250)
    private static let reportInterval: Duration = .seconds(1)

    private let group: EdgeLoopGroup
    private let loop: EdgeLoop
    private let contexts: [LoopContext]
    private let routes: ConnectionRoutes
    private let options: ConnectionOptions
    private let admission: Admission
    private let metrics: GatewayMetrics
    private let logger: Logger
    private var descriptor: CInt = -1
    /// Kept so that a connection can be accepted and refused when there are no descriptors left.
    private var reserve: CInt = -1
    private var isWatching = false
    private var turn = 0
    private var resumption: ScheduledCall?
    private var report: ScheduledCall?

    package init(
        group: EdgeLoopGroup, routes: ConnectionRoutes, options: ConnectionOptions = ConnectionOptions(), logger: Logger
    ) {
        let admission = Admission(options: options)
        let metrics = GatewayMetrics()
        self.group = group
        self.loop = group.loops[0]
        self.routes = routes
        self.options = options
        self.admission = admission
        self.metrics = metrics
        self.logger = logger
        self.contexts = group.loops.map {
            LoopContext(loop: $0, options: options, admission: admission, metrics: metrics)
        }
    }

    /// How many WebSocket connections are open.
    package var connectionCount: Int { self.admission.openConnections }

    /// Listens from now on.
    /// - Parameter port: 0 takes a free one.
    /// - Returns: the port.
    /// - Throws: where the address cannot be bound.
    package func start(host: String, port: UInt16) async throws(SystemError) -> UInt16 {
        let descriptor = try Socket.listen(host: host, port: port, backlog: self.options.backlog)
        let bound = Socket.port(of: descriptor)
        let failure = await self.onLoop { listener -> SystemError? in
            listener.descriptor = descriptor
            listener.reserve = Listener.openReserve()
            do throws(SystemError) {
                try listener.watch()
                listener.scheduleReport()
                return nil
            } catch {
                listener.closeListeningSocket()
                return error
            }
        }
        if let failure { throw failure }
        return bound
    }

    /// Accepts no more; what is open stays. Harmless when repeated.
    package func stopAccepting() async {
        await self.onLoop { listener in listener.closeListeningSocket() }
    }

    /// Accepts no more and closes what is open with 3001; returns without waiting for the close handshakes.
    package func stop() async {
        await self.stopAccepting()
        for context in self.contexts {
            await withCheckedContinuation { continuation in
                context.loop.execute {
                    context.closeAll()
                    continuation.resume()
                }
            }
        }
        await self.onLoop { listener in
            listener.resumption?.cancel()
            listener.report?.cancel()
        }
    }

    private func onLoop<Result: Sendable>(_ body: @escaping @Sendable (Listener) -> Result) async -> Result {
        await withCheckedContinuation { continuation in
            self.loop.execute { continuation.resume(returning: body(self)) }
        }
    }

    // MARK: Accepting

    package func ready(readable: Bool, writable: Bool, hangup: Bool) {
        for _ in 0..<Listener.acceptsPerTurn {
            let accepted = fanfare_accept(self.descriptor)
            if accepted >= 0 {
                self.take(accepted)
                continue
            }
            switch errno {
            case EAGAIN: return
            case EMFILE, ENFILE, ENOBUFS, ENOMEM:
                self.refuseForWantOfDescriptors(errno)
                return
            // The peer gave up before it was accepted, or the network failed for it: the next one is another matter.
            default: continue
            }
        }
    }

    private func take(_ accepted: CInt) {
        self.metrics.countAccepted()
        guard self.admission.beginPending() else {
            self.metrics.count(.pendingFull)
            Listener.refuseUnread(accepted)
            return
        }
        Socket.setNoDelay(accepted)
        let context = self.contexts[self.turn % self.contexts.count]
        self.turn &+= 1
        let arriving = ArrivingConnection(descriptor: accepted, routes: self.routes, context: context)
        if context.loop === self.loop {
            arriving.start()
        } else {
            context.loop.execute { arriving.start() }
        }
    }

    /// No request has been read: the answer reaches the peer in most cases, and nothing is spent on it.
    private static func refuseUnread(_ descriptor: CInt) {
        let response = HTTPStatus.unavailable.response(retryAfterSeconds: 5)
        _ = response.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, fanfare_send_flags) }
        shutdown(descriptor, CInt(SHUT_WR))
        close(descriptor)
    }

    /// Those who wait are answered by way of the reserve, then accepting pauses: trying again at once would fail again
    /// and take the loop's time from those who are connected.
    private func refuseForWantOfDescriptors(_ number: CInt) {
        self.logger.warning(
            "out of descriptors: refusing connections",
            metadata: ["error": "\(SystemError("accept4", number: number))"])
        if self.reserve >= 0 {
            close(self.reserve)
            for _ in 0..<Listener.acceptsPerTurn {
                let accepted = fanfare_accept(self.descriptor)
                guard accepted >= 0 else { break }
                self.metrics.count(.outOfDescriptors)
                Listener.refuseUnread(accepted)
            }
        }
        self.reserve = Listener.openReserve()
        self.unwatch()
        self.resumption = self.loop.schedule(after: Listener.pause) { [weak self] in
            guard let self, self.descriptor >= 0 else { return }
            do throws(SystemError) {
                try self.watch()
            } catch {
                self.logger.error("cannot accept connections any more", metadata: ["error": "\(error)"])
            }
        }
    }

    private static func openReserve() -> CInt { open("/dev/null", O_RDONLY | O_CLOEXEC) }

    private func watch() throws(SystemError) {
        guard !self.isWatching else { return }
        try self.loop.register(descriptor: self.descriptor, .readable, handler: self)
        self.isWatching = true
    }

    private func unwatch() {
        guard self.isWatching else { return }
        self.loop.deregister(descriptor: self.descriptor)
        self.isWatching = false
    }

    private func closeListeningSocket() {
        guard self.descriptor >= 0 else { return }
        self.unwatch()
        close(self.descriptor)
        self.descriptor = -1
        if self.reserve >= 0 { close(self.reserve) }
        self.reserve = -1
    }

    // MARK: Metrics

    private func scheduleReport() {
        self.report = self.loop.schedule(after: Listener.reportInterval) { [weak self] in
            guard let self else { return }
            self.metrics.report(self.admission)
            for context in self.contexts { context.loop.execute { context.reportTraffic() } }
            self.scheduleReport()
        }
    }
}
