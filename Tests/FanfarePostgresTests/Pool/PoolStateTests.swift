import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

@Suite struct PoolStateTests {
    private let start = MonotonicInstant(nanoseconds: 0)

    @Test func placesAndQueueAreBounded() {
        var state = PoolState<String>(size: 2, queueLimit: 2, queueTime: .seconds(1))
        #expect(self.place(&state, "a") == 0)
        #expect(self.place(&state, "b") == 1)
        #expect(self.place(&state, "c") == nil)
        #expect(self.place(&state, "d") == nil)
        guard case .refuse(let error) = state.acquire("e", now: self.start) else {
            Issue.record("a third one waits")
            return
        }
        #expect(error.code == .overloaded)
        #expect(error.retryAfter == .seconds(1))
        #expect(state.release(1) == "c")
        #expect(state.release(0) == "d")
        #expect(state.release(1) == nil)
        #expect(state.inUse == 1)
    }

    @Test func waitingEnds() {
        var state = PoolState<String>(size: 1, queueLimit: 9, queueTime: .seconds(1))
        #expect(self.place(&state, "a") == 0)
        _ = state.acquire("b", now: self.start)
        _ = state.acquire("c", now: self.start + .milliseconds(500))
        #expect(state.expire(now: self.start + .milliseconds(999)).isEmpty)
        #expect(state.expire(now: self.start + .seconds(1)) == ["b"])
        #expect(state.stop() == ["c"])
        guard case .refuse(let error) = state.acquire("d", now: self.start) else {
            Issue.record("a place after the end")
            return
        }
        #expect(error.code == .unavailable)
        #expect(state.release(0) == nil)
        #expect(state.acquireIdlest() == nil)
    }

    @Test func theIdlestIsTried() {
        var state = PoolState<String>(size: 3, queueLimit: 0, queueTime: .seconds(1))
        #expect(state.acquireIdlest() == 2)
        #expect(state.release(2) == nil)
        #expect(state.acquireIdlest() == 1)
        #expect(self.place(&state, "a") == 2)
    }

    private func place(_ state: inout PoolState<String>, _ waiter: String) -> Int? {
        if case .place(let place) = state.acquire(waiter, now: self.start) { place } else { nil }
    }
}
