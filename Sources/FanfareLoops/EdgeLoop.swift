internal import CEpoll
package import FanfareCore
package import FanfareModel
internal import Glibc
internal import Synchronization

/// A thread that waits for descriptors, timers and jobs, and is the executor of the actors that live on it.
///
/// A turn is: descriptors that are ready, timers that are due, jobs, and at last what asked for `atEndOfTurn`. Handlers
/// that run on the loop enter its actors with `assumeIsolated`, without a hop.
///
/// Safe to share (`@unchecked`): what other threads touch is in `inbox` and in atomics; everything else is used on the
/// loop's own thread alone, which is checked.
package final class EdgeLoop: Loop, @unchecked Sendable {
    private enum Job {
        case actor(UnownedJob)
        case body(@Sendable () -> Void)
    }

    private struct Inbox {
        var jobs: [Job] = []
        var timers = TimerHeap()
        /// The thread waits, or is about to, and looks into the inbox only after a wake-up.
        var isAsleep = false
        var isStopping = false
    }

    /// Jobs given while a turn's jobs run are taken up in the same turn, so that what they write leaves together; this
    /// often at the most, so that descriptors get their turn too.
    private static let passesPerTurn = 8
    private static let eventsPerTurn = 512
    /// How much `receiveBuffer` holds.
    package static let receiveBufferSize = 64 * 1024

    package let name: String
    let epoll: CInt
    private let wakeUpDescriptor: CInt
    private let inbox = Mutex(Inbox())
    /// The loop's thread, 0 before it runs and after it ended.
    private let threadIdentity = Atomic<UInt>(0)
    /// Held while joining, so that every caller of `stop` returns after the thread's end.
    private let thread: Mutex<pthread_t?>
    private let counters = LoopCounters()

    /// Loop's thread only: what to call for which descriptor, by descriptor.
    var registrations: [Registration] = []
    /// Loop's thread only.
    private var endOfTurn: [any EndOfTurnTask] = []
    /// Loop's thread only: empty but while they run; keeps its storage.
    private var endOfTurnRunning: [any EndOfTurnTask] = []
    /// Loop's thread only: lent to whoever reads from a descriptor, until it returns.
    package let receiveBuffer: UnsafeMutableRawBufferPointer

    /// Starts the thread.
    /// - Parameter name: at most 15 characters are shown by the system's tools.
    /// - Throws: where the process is out of descriptors or threads.
    package init(name: String) throws(SystemError) {
        signal(SIGPIPE, SIG_IGN)
        self.name = name
        self.epoll = fanfare_epoll_create()
        guard self.epoll >= 0 else { throw SystemError("epoll_create1") }
        self.wakeUpDescriptor = fanfare_eventfd_create()
        self.receiveBuffer = .allocate(byteCount: EdgeLoop.receiveBufferSize, alignment: 16)
        self.thread = Mutex(nil)
        guard self.wakeUpDescriptor >= 0 else { throw SystemError("eventfd") }
        let events = EPOLLIN.rawValue
        guard fanfare_epoll_ctl(self.epoll, EPOLL_CTL_ADD, self.wakeUpDescriptor, events, .max) == 0 else {
            throw SystemError("epoll_ctl")
        }
        var thread = pthread_t()
        let context = Unmanaged.passRetained(self)
        let result = pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                Unmanaged<EdgeLoop>.fromOpaque(context).takeRetainedValue().run()
                return nil
            }, context.toOpaque())
        guard result == 0 else {
            context.release()
            throw SystemError("pthread_create", number: result)
        }
        self.thread.withLock { $0 = thread }
    }

    deinit {
        close(self.epoll)
        if self.wakeUpDescriptor >= 0 { close(self.wakeUpDescriptor) }
        self.receiveBuffer.deallocate()
    }

    /// Runs what was given before, drops the timers, ends the thread and waits for its end (unless called on the loop
    /// itself). Harmless when repeated. What is given to the loop afterwards never runs.
    package func stop() {
        let isAsleep = self.inbox.withLock { inbox in
            inbox.isStopping = true
            defer { inbox.isAsleep = false }
            return inbox.isAsleep
        }
        if isAsleep { self.wakeUp() }
        guard !self.isCurrent else { return }
        self.thread.withLock { thread in
            guard let joinable = thread.take() else { return }
            pthread_join(joinable, nil)
        }
    }

    // MARK: Executor

    /// Whether the caller runs on this loop's thread.
    package var isCurrent: Bool { self.threadIdentity.load(ordering: .relaxed) == UInt(pthread_self()) }

    package func enqueue(_ job: consuming ExecutorJob) { self.submit(.actor(UnownedJob(job))) }
    package func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }
    package func checkIsolated() { precondition(self.isCurrent, "not on the loop \(self.name)") }
    package func isIsolatingCurrentContext() -> Bool? { self.isCurrent }

    package func execute(_ body: @escaping @Sendable () -> Void) { self.submit(.body(body)) }

    private func submit(_ job: Job) {
        let mustWake = self.inbox.withLock { inbox in
            inbox.jobs.append(job)
            defer { inbox.isAsleep = false }
            return inbox.isAsleep
        }
        if mustWake { self.wakeUp() }
    }

    /// One write per sleep: whoever takes `isAsleep` away does it.
    private func wakeUp() {
        self.counters.wakeUps.add(1, ordering: .relaxed)
        eventfd_write(self.wakeUpDescriptor, 1)
    }

    // MARK: Time

    package var now: MonotonicInstant { EdgeLoop.now }

    /// `CLOCK_MONOTONIC`.
    package static var now: MonotonicInstant {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return MonotonicInstant(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    @discardableResult
    package func schedule(
        at deadline: MonotonicInstant, _ body: @escaping @Sendable () -> Void
    ) -> ScheduledCall {
        let (timer, mustWake) = self.inbox.withLock { inbox in
            let isEarliest = inbox.timers.earliest.map { deadline < $0 } ?? true
            let timer = LoopTimerReference(timer: inbox.timers.insert(at: deadline, body))
            guard isEarliest, inbox.isAsleep else { return (timer, false) }
            inbox.isAsleep = false
            return (timer, true)
        }
        if mustWake { self.wakeUp() }
        return ScheduledCall { [weak self] in
            // Released outside the lock: its captures may call the loop when they go.
            _ = self?.inbox.withLock { $0.timers.cancel(timer.timer) }
        }
    }

    /// How many calls wait for their time: for tests and metrics.
    package var timerCount: Int { self.inbox.withLock { $0.timers.count } }

    /// What the loop did since the last call of this.
    package func takeStatistics() -> LoopStatistics { self.counters.take() }

    // MARK: Turns

    /// Loop's thread only: `task` runs once when the present turn's work is done.
    package func atEndOfTurn(_ task: any EndOfTurnTask) {
        precondition(self.isCurrent, "not on the loop \(self.name)")
        self.endOfTurn.append(task)
    }

    private func run() {
        self.threadIdentity.store(UInt(pthread_self()), ordering: .relaxed)
        fanfare_thread_set_name(self.name)
        let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: EdgeLoop.eventsPerTurn)
        defer { events.deallocate() }
        var jobs: [Job] = []
        while true {
            let (timeout, isStopping) = self.prepareToWait()
            if isStopping { break }
            let count = epoll_wait(self.epoll, events, CInt(EdgeLoop.eventsPerTurn), timeout)
            let begin = EdgeLoop.now
            self.inbox.withLock { $0.isAsleep = false }
            for index in 0..<max(0, Int(count)) { self.dispatch(events[index]) }
            self.runTimers(dueAt: begin)
            self.runJobs(&jobs)
            self.runEndOfTurn()
            self.counters.record(turn: EdgeLoop.now - begin)
        }
        self.runJobs(&jobs)
        self.runEndOfTurn()
        let dropped = self.inbox.withLock { $0.timers.removeAll() }
        withExtendedLifetime(dropped) {}
        self.registrations = []
        self.threadIdentity.store(0, ordering: .relaxed)
    }

    /// The time to wait in milliseconds, -1 for ever; and whether the loop must end: not before the inbox is empty.
    private func prepareToWait() -> (timeout: CInt, isStopping: Bool) {
        let hasWork = !self.endOfTurn.isEmpty
        return self.inbox.withLock { inbox in
            guard inbox.jobs.isEmpty, !hasWork else { return (0, false) }
            guard !inbox.isStopping else { return (0, true) }
            guard let earliest = inbox.timers.earliest else {
                inbox.isAsleep = true
                return (-1, false)
            }
            let wait = (earliest - EdgeLoop.now).nanoseconds
            guard wait > 0 else { return (0, false) }
            inbox.isAsleep = true
            // Rounded up: waking early would only mean to wait again.
            return (CInt(min(wait / 1_000_000 + 1, 3_600_000)), false)
        }
    }

    private func dispatch(_ event: epoll_event) {
        guard event.data.u64 != .max else {
            var value: eventfd_t = 0
            eventfd_read(self.wakeUpDescriptor, &value)
            return
        }
        // An event of a descriptor that was deregistered earlier in this turn has an old generation: its number may
        // belong to another connection by now.
        let token = RegistrationToken(rawValue: event.data.u64)
        guard self.registrations.indices.contains(token.descriptor) else { return }
        let registration = self.registrations[token.descriptor]
        guard registration.generation == token.generation, let handler = registration.handler else { return }
        let bits = event.events
        let failed = bits & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0
        handler.ready(
            readable: bits & EPOLLIN.rawValue != 0,
            writable: bits & EPOLLOUT.rawValue != 0,
            hangup: failed || bits & EPOLLRDHUP.rawValue != 0)
    }

    private func runTimers(dueAt now: MonotonicInstant) {
        while let body = self.inbox.withLock({ $0.timers.popDue(at: now) }) { body() }
    }

    private func runJobs(_ jobs: inout [Job]) {
        for _ in 0..<EdgeLoop.passesPerTurn {
            self.inbox.withLock { swap(&$0.jobs, &jobs) }
            guard !jobs.isEmpty else { return }
            self.counters.jobs.add(jobs.count, ordering: .relaxed)
            for job in jobs {
                switch job {
                case .actor(let job):
                    job.runSynchronously(
                        isolatedTo: self.asUnownedSerialExecutor(), taskExecutor: self.asUnownedTaskExecutor())
                case .body(let body): body()
                }
            }
            // A burst's storage is not kept for ever.
            jobs.removeAll(keepingCapacity: jobs.capacity <= 4096)
        }
    }

    private func runEndOfTurn() {
        guard !self.endOfTurn.isEmpty else { return }
        // What is added meanwhile runs at the end of the next turn, which begins at once.
        swap(&self.endOfTurn, &self.endOfTurnRunning)
        for task in self.endOfTurnRunning { task.endOfTurn() }
        self.endOfTurnRunning.removeAll(keepingCapacity: true)
    }
}

/// Lets a cancellation carry its timer to any thread. Safe: a timer is touched only under the lock of its loop's inbox.
private struct LoopTimerReference: @unchecked Sendable {
    let timer: LoopTimer
}

/// Something to do once when a turn's work is done: writes gathered during the turn leave together.
package protocol EndOfTurnTask: AnyObject {
    /// Called on the loop.
    func endOfTurn()
}
