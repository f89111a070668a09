import FanfareLoops
import FanfareModel
import Testing

@Suite struct TimerHeapTests {
    /// Random inserts and cancellations against a sorted list.
    @Test(arguments: [1 as UInt64, 2, 3, 4]) func behavesAsASortedList(seed: UInt64) {
        var generator = SeededGenerator(state: seed)
        var heap = TimerHeap()
        var waiting: [(deadline: Int64, number: Int, timer: LoopTimer)] = []
        let recorder = Recorder()
        for number in 0..<2000 {
            switch generator.next() % 4 {
            case 0 where !waiting.isEmpty:
                let victim = waiting.remove(at: Int(generator.next() % UInt64(waiting.count)))
                #expect(heap.cancel(victim.timer) != nil)
                #expect(heap.cancel(victim.timer) == nil)
            case 1:
                let now = Int64(generator.next() % 1000)
                let due = waiting.filter { $0.deadline <= now }.sorted {
                    ($0.deadline, $0.number) < ($1.deadline, $1.number)
                }
                recorder.clear()
                while let body = heap.popDue(at: MonotonicInstant(nanoseconds: now)) { body() }
                #expect(recorder.values == due.map(\.number))
                waiting.removeAll { $0.deadline <= now }
            default:
                let deadline = Int64(generator.next() % 1000)
                let timer = heap.insert(at: MonotonicInstant(nanoseconds: deadline)) { recorder.append(number) }
                waiting.append((deadline, number, timer))
            }
            #expect(heap.count == waiting.count)
            #expect(heap.earliest?.nanoseconds == waiting.map(\.deadline).min())
        }
    }

    @Test func cancellationReleasesWhatTheCallHeld() {
        final class Held: Sendable {}
        var heap = TimerHeap()
        var held: Held? = Held()
        weak let observer = held
        let timer = heap.insert(at: MonotonicInstant(nanoseconds: 1)) { [held] in withExtendedLifetime(held) {} }
        held = nil
        #expect(observer != nil)
        _ = heap.cancel(timer)
        #expect(observer == nil)
        #expect(heap.count == 0)
    }
}
