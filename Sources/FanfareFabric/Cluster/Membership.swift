package import FanfareCore
package import FanfareEngines
package import FanfareModel
package import Logging

/// Keeps this node's lease and view current: a heartbeat every third of the lease, at once when the membership changed.
package actor Membership {
    package nonisolated let unownedExecutor: UnownedSerialExecutor
    private let loop: any Loop
    private let broker: any Broker
    private let map: ClusterMap
    private let surroundings: Surroundings
    private let lease: Duration
    private let logger: Logger
    private let viewChanged: @Sendable (View) -> Void
    private let joined: @Sendable () -> Void
    private let nameLost: @Sendable () -> Void

    private var me: Member
    private var isStopped = false
    private var isBeating = false
    private var wantsAnotherBeat = false
    private var timer: ScheduledCall?
    /// Those who wait for the end of a heartbeat that began after they asked.
    private var waiters: [CheckedContinuation<Void, Never>] = []
    private var lastProblem: EngineError?
    private var nameConflictBegan: MonotonicInstant
    private var hasToldConflict = false

    /// - Parameters:
    ///   - viewChanged: called on `loop` with each new view.
    ///   - joined: called on `loop` where the lease had ended, or was never there: the others may have counted this node
    ///     out until now.
    ///   - nameLost: called on `loop` where another process has this node's name: this one owns nothing any more.
    package init(
        loop: any Loop, broker: any Broker, map: ClusterMap, member: Member, lease: Duration,
        surroundings: Surroundings, logger: Logger, viewChanged: @escaping @Sendable (View) -> Void,
        joined: @escaping @Sendable () -> Void = {}, nameLost: @escaping @Sendable () -> Void = {}
    ) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.loop = loop
        self.broker = broker
        self.map = map
        self.me = member
        self.lease = lease
        self.nameConflictBegan = loop.now
        self.surroundings = surroundings
        self.logger = logger
        self.viewChanged = viewChanged
        self.joined = joined
        self.nameLost = nameLost
    }

    package func start() { self.beatSoon() }

    /// Why the last heartbeat failed; nil where it did not.
    package var problem: String? { self.lastProblem?.description }

    package var state: Member.State { self.me.state }

    /// Renews now and returns when the view is as fresh as the engine has it, or the attempt failed.
    package func refresh() async {
        guard !self.isStopped else { return }
        await withCheckedContinuation { continuation in
            // Getting here may have been a suspension; who stopped meanwhile wakes nobody any more.
            guard !self.isStopped else { return continuation.resume() }
            self.waiters.append(continuation)
            self.beatSoon()
        }
    }

    /// Keeps the membership but gives the slots up.
    package func drain() async {
        self.me.state = .draining
        await self.refresh()
    }

    /// Leaves the membership at once; the node must not be used afterwards.
    package func leave() async {
        self.isStopped = true
        self.timer?.cancel()
        for waiter in self.waiters { waiter.resume() }
        self.waiters = []
        do {
            try await self.broker.leave(self.me)
        } catch {
            self.logger.notice("could not say goodbye: the lease will end by itself", metadata: ["error": "\(error)"])
        }
    }

    package nonisolated func membershipChanged() {
        self.loop.execute { self.onThisLoop { $0.beatSoon() } }
    }

    private func beatSoon() {
        guard !self.isStopped else { return }
        guard !self.isBeating else {
            self.wantsAnotherBeat = true
            return
        }
        self.isBeating = true
        self.timer?.cancel()
        self.loop.task { await self.beat() }
    }

    private func beat() async {
        let waiters = self.waiters
        self.waiters = []
        // The lease is counted from before the request: the engine's own count begins later.
        let began = self.loop.now
        do {
            let view = try await self.broker.heartbeat(
                self.me, lease: self.lease, newGeneration: self.surroundings.letters(), seen: self.map.view?.number)
            if self.lastProblem != nil { self.logger.notice("membership renewed again") }
            self.lastProblem = nil
            let hadLeft = !self.map.holdsLease(at: self.loop.now)
            if self.map.renewed(view, leaseEnds: began + self.lease, at: self.loop.now) {
                self.logger.info(
                    "new view",
                    metadata: [
                        "view": "\(view.number)",
                        "members": "\(view.members.map { "\($0.node)(\($0.state.rawValue))" }.joined(separator: " "))",
                    ])
                self.viewChanged(view)
            }
            if hadLeft { self.joined() }
        } catch {
            if error.code == .fenced {
                self.lostName(error)
            } else if self.lastProblem == nil {
                self.logger.warning("heartbeat failed", metadata: ["error": "\(error)"])
            }
            self.lastProblem = error
        }
        for waiter in waiters { waiter.resume() }
        self.isBeating = false
        guard !self.isStopped else { return }
        if self.wantsAnotherBeat || !self.waiters.isEmpty {
            self.wantsAnotherBeat = false
            self.beatSoon()
        } else {
            // The name may become free at any time.
            let pause = self.map.nameConflict == nil ? self.lease / 3 : self.lease / 12
            self.timer = self.loop.schedule(after: pause) { self.onThisLoop { $0.beatSoon() } }
        }
    }

    /// After a crash the name's former process is remembered for a while; one that is there longer lives.
    private func lostName(_ error: EngineError) {
        let now = self.loop.now
        let isNew = self.map.nameConflict == nil
        self.map.lostName(error.message)
        if isNew {
            self.nameConflictBegan = now
            self.hasToldConflict = false
            self.nameLost()
        }
        guard !self.hasToldConflict, self.nameConflictBegan + self.lease < now else { return }
        self.hasToldConflict = true
        self.logger.error(
            "another process runs under this node's name: this one stays unready until the name is free",
            metadata: ["name": "\(self.me.node)", "error": "\(error.message)"])
    }
}
