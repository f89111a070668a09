package import FanfareCore
package import FanfareModel
import Foundation

/// Runs `body` on a thread of its own, outside of any task, and waits for it: where a simulation belongs.
package func onOwnThread<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result {
    await withCheckedContinuation { continuation in
        let thread = Thread { continuation.resume(returning: body()) }
        thread.stackSize = 16 << 20
        thread.start()
    }
}

/// Runs all actors of a simulated cluster on one thread: picks the next job with a seeded generator, and moves its clock to
/// the next timer when nothing is ready. The same seed gives the same run.
package final class SimulatedScheduler: @unchecked Sendable {
    // Safe: used on the one thread that runs the simulation, which `enqueue` checks.
    package enum Work {
        case job(UnownedJob)
        case call(@Sendable () -> Void)
    }

    private struct Timer {
        let deadline: MonotonicInstant
        let id: UInt64
        let loop: SimulatedLoop
        let body: @Sendable () -> Void
    }

    package private(set) var now = MonotonicInstant(nanoseconds: 1_000_000_000)
    package var random: SeededGenerator
    /// How much was run: two runs of one seed are compared by it.
    package private(set) var steps = 0
    /// Folds every choice: equal traces have equal digests.
    package private(set) var digest: UInt64 = 0
    private var timers: [UInt64: Timer] = [:]
    private var timerOrder: [(MonotonicInstant, UInt64)] = []
    private var lastTimer: UInt64 = 0
    private var loops: [SimulatedLoop] = []
    fileprivate var current: SimulatedLoop?
    private let thread = Thread.current

    package init(seed: UInt64) { self.random = SeededGenerator(seed: seed) }

    package func makeLoop(name: String) -> SimulatedLoop {
        let loop = SimulatedLoop(scheduler: self, name: name)
        self.loops.append(loop)
        return loop
    }

    /// The surroundings of a node: ids and randomness from the seed.
    package func surroundings() -> Surroundings {
        Surroundings(
            wallClock: { Timestamp(milliseconds: 1_767_225_600_000 + self.now.nanoseconds / 1_000_000) },
            random: { self.random.next() })
    }

    fileprivate func checkThread() {
        precondition(
            Thread.current === self.thread, "work left the simulation: a task was started outside of an actor")
    }

    fileprivate func schedule(
        _ loop: SimulatedLoop, at deadline: MonotonicInstant, _ body: @escaping @Sendable () -> Void
    ) -> ScheduledCall {
        self.checkThread()
        self.lastTimer += 1
        let id = self.lastTimer
        self.timers[id] = Timer(deadline: max(deadline, self.now), id: id, loop: loop, body: body)
        let key = (max(deadline, self.now), id)
        let index = self.timerOrder.partition { key < $0 }
        self.timerOrder.insert(key, at: index)
        return ScheduledCall { self.timers[id] = nil }
    }

    /// One job, one timer, or nothing left to do.
    /// - Returns: false where nothing is left.
    package func step() -> Bool {
        let ready = self.loops.filter { $0.isRunnable }
        if !ready.isEmpty {
            let loop = ready[Int(self.random.next() % UInt64(ready.count))]
            self.run(loop)
            return true
        }
        while let (deadline, id) = self.timerOrder.first {
            self.timerOrder.removeFirst()
            guard let timer = self.timers.removeValue(forKey: id) else { continue }
            self.now = max(self.now, deadline)
            timer.loop.execute(timer.body)
            return true
        }
        return false
    }

    private func run(_ loop: SimulatedLoop) {
        self.steps += 1
        self.digest =
            (self.digest ^ UInt64(loop.index)) &* 0x0000_0100_0000_01b3 &+ UInt64(bitPattern: self.now.nanoseconds)
        self.current = loop
        loop.runNext()
        self.current = nil
    }

    /// Runs until `condition` holds.
    /// - Returns: false where `duration` of simulated time went by first.
    package func run(for duration: Duration, until condition: () -> Bool = { false }) -> Bool {
        let deadline = self.now + duration
        while self.now < deadline {
            if condition() { return true }
            // What is due later must not run before the deadline: the timer order tells.
            if self.loops.allSatisfy({ !$0.isRunnable }), let next = self.nextTimer, next > deadline {
                self.now = deadline
                break
            }
            if !self.step() { break }
        }
        return condition()
    }

    private var nextTimer: MonotonicInstant? {
        while let (deadline, id) = self.timerOrder.first {
            if self.timers[id] != nil { return deadline }
            self.timerOrder.removeFirst()
        }
        return nil
    }

    fileprivate func index() -> Int { self.loops.count }
}

extension Array where Element == (MonotonicInstant, UInt64) {
    /// The first index whose element is above the key: the array is sorted.
    fileprivate func partition(isAbove: (Element) -> Bool) -> Int {
        var (low, high) = (0, self.count)
        while low < high {
            let middle = (low + high) / 2
            if isAbove(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

/// A loop of a simulated node: a serial executor whose turns the scheduler gives.
package final class SimulatedLoop: Loop, @unchecked Sendable {
    // Safe: as its scheduler, used on one thread.
    package let name: String
    let index: Int
    private unowned let scheduler: SimulatedScheduler
    private var ready: [SimulatedScheduler.Work] = []
    private var head = 0
    /// A paused loop keeps its work; a dead one never runs again.
    package var isPaused = false
    package private(set) var isDead = false

    fileprivate init(scheduler: SimulatedScheduler, name: String) {
        self.scheduler = scheduler
        self.name = name
        self.index = scheduler.index()
    }

    package var now: MonotonicInstant { self.scheduler.now }
    fileprivate var isRunnable: Bool { !self.isPaused && !self.isDead && self.head < self.ready.count }

    package func kill() { self.isDead = true }

    package func enqueue(_ job: consuming ExecutorJob) {
        self.scheduler.checkThread()
        self.ready.append(.job(UnownedJob(job)))
    }

    package func execute(_ body: @escaping @Sendable () -> Void) {
        self.scheduler.checkThread()
        self.ready.append(.call(body))
    }

    @discardableResult
    package func schedule(at deadline: MonotonicInstant, _ body: @escaping @Sendable () -> Void) -> ScheduledCall {
        self.scheduler.schedule(self, at: deadline, body)
    }

    package func checkIsolated() {
        precondition(self.scheduler.current === self, "not on loop \(self.name)")
    }

    fileprivate func runNext() {
        let work = self.ready[self.head]
        self.head += 1
        if self.head == self.ready.count {
            self.ready.removeAll(keepingCapacity: true)
            self.head = 0
        }
        switch work {
        case .job(let job):
            job.runSynchronously(
                isolatedTo: self.asUnownedSerialExecutor(), taskExecutor: self.asUnownedTaskExecutor())
        case .call(let body): body()
        }
    }
}
