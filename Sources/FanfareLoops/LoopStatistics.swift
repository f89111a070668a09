internal import FanfareModel
internal import Synchronization

/// What a loop did since the statistics were taken last.
package struct LoopStatistics: Sendable, Hashable {
    package var turns: Int
    package var jobs: Int
    /// Wake-ups paid by threads that gave the sleeping loop something to do.
    package var wakeUps: Int
    /// How long it did not wait.
    package var busy: Duration
    /// The loop's lag at its worst: whatever became ready at the begin of the longest turn waited this long.
    package var longestTurn: Duration
}

/// Written by the loop's thread (and `wakeUps` by others), read by whoever shows metrics.
final class LoopCounters: Sendable {
    let turns = Atomic<Int>(0)
    let jobs = Atomic<Int>(0)
    let wakeUps = Atomic<Int>(0)
    private let busyNanoseconds = Atomic<Int64>(0)
    private let longestTurn = Atomic<Int64>(0)

    func record(turn: Duration) {
        let nanoseconds = turn.nanoseconds
        self.turns.add(1, ordering: .relaxed)
        self.busyNanoseconds.add(nanoseconds, ordering: .relaxed)
        self.longestTurn.max(nanoseconds, ordering: .relaxed)
    }

    func take() -> LoopStatistics {
        LoopStatistics(
            turns: self.turns.exchange(0, ordering: .relaxed),
            jobs: self.jobs.exchange(0, ordering: .relaxed),
            wakeUps: self.wakeUps.exchange(0, ordering: .relaxed),
            busy: .nanoseconds(self.busyNanoseconds.exchange(0, ordering: .relaxed)),
            longestTurn: .nanoseconds(self.longestTurn.exchange(0, ordering: .relaxed)))
    }
}
