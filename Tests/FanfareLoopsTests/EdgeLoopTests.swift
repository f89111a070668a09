import FanfareCore
import FanfareLoops
import FanfareModel
import Synchronization
import Testing

/// Lives on a loop.
private actor Counter {
    private let loop: EdgeLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { self.loop.asUnownedSerialExecutor() }
    private(set) var count = 0
    private(set) var alwaysOnLoop = true

    init(loop: EdgeLoop) { self.loop = loop }

    func increment() {
        self.count += 1
        self.alwaysOnLoop = self.alwaysOnLoop && self.loop.isCurrent
    }
}

private final class EndOfTurnRecorder: EndOfTurnTask, Sendable {
    let recorder: Recorder
    init(_ recorder: Recorder) { self.recorder = recorder }
    func endOfTurn() { self.recorder.append(-1) }
}

@Suite struct EdgeLoopTests {
    @Test func runsWhatOneThreadGivesInOrder() async throws {
        let loop = try EdgeLoop(name: "test")
        defer { loop.stop() }
        let recorder = Recorder()
        for number in 0..<10_000 { loop.execute { recorder.append(number) } }
        try await onLoop(loop) {}
        #expect(recorder.values == Array(0..<10_000))
        // One wake-up serves a whole batch.
        #expect(loop.takeStatistics().wakeUps <= 10_001)
    }

    @Test func aBatchGivenOnTheLoopItselfNeedsNoWakeUp() async throws {
        let loop = try EdgeLoop(name: "test")
        defer { loop.stop() }
        let recorder = Recorder()
        try await onLoop(loop) {
            _ = loop.takeStatistics()
            for number in 0..<1000 { loop.execute { recorder.append(number) } }
        }
        try await eventually(on: loop) { recorder.values.count == 1000 }
    }

    @Test func isTheExecutorOfItsActors() async throws {
        let loop = try EdgeLoop(name: "test")
        defer { loop.stop() }
        let counter = Counter(loop: loop)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask { for _ in 0..<500 { await counter.increment() } }
            }
        }
        #expect(await counter.count == 4000)
        #expect(await counter.alwaysOnLoop)
        try await onLoop(loop) { counter.assumeIsolated { $0.increment() } }
        #expect(await counter.count == 4001)
        #expect(!loop.isCurrent)
        #expect(loop.isIsolatingCurrentContext() == false)
    }

    @Test func timersRunInOrderAndNeverEarly() async throws {
        let loop = try EdgeLoop(name: "test")
        defer { loop.stop() }
        let recorder = Recorder()
        let late = Atomic<Int>(0)
        let start = loop.now
        for number in [5, 1, 4, 2, 3] {
            let deadline = start + .milliseconds(number * 4)
            loop.schedule(at: deadline) {
                if loop.now < deadline { late.add(1, ordering: .relaxed) }
                recorder.append(number)
            }
        }
        try await eventually(on: loop) { recorder.values.count == 5 }
        #expect(recorder.values == [1, 2, 3, 4, 5])
        #expect(late.load(ordering: .relaxed) == 0)
    }

    @Test func aCancelledTimerNeverRunsAndHoldsNothing() async throws {
        let loop = try EdgeLoop(name: "test")
        defer { loop.stop() }
        let recorder = Recorder()
        let calls = (0..<1000).map { number in loop.schedule(after: .seconds(3600)) { recorder.append(number) } }
        #expect(loop.timerCount == 1000)
        for call in calls { call.cancel() }
        #expect(loop.timerCount == 0)
        loop.schedule(after: .milliseconds(1)) { recorder.append(-1) }
        try await eventually(on: loop) { recorder.values == [-1] }
        for call in calls { call.cancel() }
    }

    @Test func anEarlierTimerShortensTheWait() async throws {
        let loop = try EdgeLoop(name: "test")
        defer { loop.stop() }
        loop.schedule(after: .seconds(3600)) {}
        try await onLoop(loop) {}
        let recorder = Recorder()
        loop.schedule(after: .milliseconds(2)) { recorder.append(1) }
        try await eventually(on: loop) { !recorder.values.isEmpty }
    }

    @Test func endOfTurnComesAfterTheTurnsJobs() async throws {
        let loop = try EdgeLoop(name: "test")
        defer { loop.stop() }
        let recorder = Recorder()
        try await onLoop(loop) {
            loop.atEndOfTurn(EndOfTurnRecorder(recorder))
            loop.execute {
                recorder.append(1)
                loop.execute { recorder.append(2) }
            }
        }
        try await eventually(on: loop) { recorder.values.count == 3 }
        #expect(recorder.values == [1, 2, -1])
    }

    @Test func stopRunsWhatWasGivenBefore() throws {
        let loop = try EdgeLoop(name: "test")
        let recorder = Recorder()
        for number in 0..<100 { loop.execute { recorder.append(number) } }
        loop.schedule(after: .seconds(3600)) { recorder.append(-1) }
        loop.stop()
        #expect(recorder.values == Array(0..<100))
        #expect(loop.timerCount == 0)
        loop.stop()
    }

    @Test func stopMayComeFromTheLoopItself() throws {
        let loop = try EdgeLoop(name: "test")
        loop.execute { loop.stop() }
        loop.stop()
    }

    @Test func aStoppedLoopIsReleased() throws {
        weak var observer: EdgeLoop?
        do {
            let loop = try EdgeLoop(name: "test")
            observer = loop
            loop.stop()
        }
        #expect(observer == nil)
    }

    @Test func measuresItsLag() async throws {
        let loop = try EdgeLoop(name: "test")
        defer { loop.stop() }
        try await onLoop(loop) {
            let end = loop.now + .milliseconds(20)
            while loop.now < end {}
        }
        try await onLoop(loop) {}
        try await onLoop(loop) {}
        let statistics = loop.takeStatistics()
        #expect(statistics.longestTurn >= .milliseconds(20))
        #expect(statistics.busy >= statistics.longestTurn)
        #expect(statistics.turns > 0 && statistics.jobs >= 2)
    }

    @Test func aGroupHandsOutItsLoopsInTurn() throws {
        let group = try EdgeLoopGroup(count: 3)
        defer { group.stop() }
        let names = (0..<6).map { _ in group.next().name }
        #expect(names == ["edge-0", "edge-1", "edge-2", "edge-0", "edge-1", "edge-2"])
    }
}
