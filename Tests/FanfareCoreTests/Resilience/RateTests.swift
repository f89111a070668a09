import FanfareModel
import Testing

@testable import FanfareCore

@Suite struct BackoffTests {
    @Test func ceilingsDoubleUpToTheCap() {
        let backoff = Backoff(base: .milliseconds(100), cap: .seconds(1))
        let ceilings = [-1, 0, 1, 2, 3, 4, 5, 62, 63, 64, Int.max].map { backoff.ceiling(attempt: $0).milliseconds }
        #expect(ceilings == [100, 100, 200, 400, 800, 1000, 1000, 1000, 1000, 1000, 1000])
    }

    @Test func delaysFillTheRangeEvenly() {
        let backoff = Backoff(base: .milliseconds(100), cap: .seconds(1))
        var generator = SeededGenerator(seed: 7)
        var sum = 0.0
        for _ in 0..<10_000 {
            let delay = backoff.delay(attempt: 2, random: generator.next())
            #expect(delay > .zero && delay <= .milliseconds(400))
            sum += delay.secondsAsDouble
        }
        #expect(abs(sum / 10_000 - 0.2) < 0.005)
    }
}

@Suite struct TokenBucketTests {
    @Test func burstThenRate() {
        var now = MonotonicInstant(nanoseconds: 0)
        var bucket = TokenBucket(rate: 10, burst: 3, now: now)
        for _ in 0..<3 { #expect(bucket.take(now: now) == .allowed) }
        #expect(bucket.take(now: now) == .refused(retryAfter: .milliseconds(100)))
        now = now + .milliseconds(100)
        #expect(bucket.take(now: now) == .allowed)
        let another = bucket.take(now: now)
        #expect(another != .allowed)
        now = now + .seconds(60)
        let isFull = bucket.isFull(now: now)
        #expect(isFull)
        #expect(bucket.take(99, now: now) == .allowed)
        let isStillFull = bucket.isFull(now: now)
        #expect(!isStillFull)
    }

    @Test func neverAboveTheRateAndNeverRefusedAfterTheTimeTold() {
        for seed in 0..<20 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let rate = Double.random(in: 0.5...1000, using: &generator)
            let burst = Double.random(in: 1...50, using: &generator)
            var now = MonotonicInstant(nanoseconds: 0)
            var bucket = TokenBucket(rate: rate, burst: burst, now: now)
            var taken = 0.0
            for _ in 0..<2000 {
                now = now + .microseconds(Int64.random(in: 0...5000, using: &generator))
                if case .refused(let after) = bucket.take(now: now) {
                    now = now + after
                    #expect(bucket.take(now: now) == .allowed, "seed \(seed)")
                }
                taken += 1
                let limit = burst + rate * (now - MonotonicInstant(nanoseconds: 0)).secondsAsDouble
                #expect(taken <= limit + 0.01, "seed \(seed)")
            }
        }
    }

    @Test func oddRatesAreHarmless() {
        let now = MonotonicInstant(nanoseconds: 0)
        for rate in [0, -1, .nan, .infinity] as [Double] {
            var bucket = TokenBucket(rate: rate, burst: .nan, now: now)
            #expect(bucket.take(now: now) == .allowed)
            #expect(bucket.take(now: now + .seconds(1)) == .refused(retryAfter: .seconds(86_400)))
        }
    }
}

@Suite struct PacerTests {
    /// What each of as many attempts gives.
    private func take(_ count: Int, of rate: Pacer.Rate, _ pacer: inout Pacer, now: MonotonicInstant) -> [Bool] {
        var results: [Bool] = []
        for _ in 0..<count { results.append(pacer.take(rate, now: now)) }
        return results
    }

    @Test func theBurstThenTheRate() {
        var pacer = Pacer()
        let rate = Pacer.Rate(perSecond: 10, burst: 3)
        let start = MonotonicInstant(nanoseconds: 5_000_000_000)
        var results = self.take(4, of: rate, &pacer, now: start)
        #expect(results == [true, true, true, false])
        results = self.take(1, of: rate, &pacer, now: start + .milliseconds(99))
        #expect(results == [false])
        results = self.take(2, of: rate, &pacer, now: start + .milliseconds(100))
        #expect(results == [true, false])
        results = self.take(4, of: rate, &pacer, now: start + .seconds(60))
        #expect(results == [true, true, true, false])
    }

    @Test(arguments: 0..<10 as Range<UInt64>)
    func neverMoreThanTheRateAllows(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let perSecond = Int.random(in: 1...1000, using: &generator)
        let burst = Int.random(in: 1...50, using: &generator)
        let rate = Pacer.Rate(perSecond: perSecond, burst: burst)
        var pacer = Pacer()
        let start = MonotonicInstant(nanoseconds: 0)
        var now = start
        var taken = 0
        for _ in 0..<3000 {
            now = now + .microseconds(Int64.random(in: 0...20_000, using: &generator))
            if pacer.take(rate, now: now) { taken += 1 }
            let allowed = Double(burst) + (now - start).secondsAsDouble * Double(perSecond) * 1.001 + 1
            #expect(Double(taken) <= allowed, "seed \(seed)")
        }
    }

    @Test(arguments: [(Int.max, Int.max), (.max, 1), (1, .max)])
    func extremeRatesDoNotOverflow(perSecond: Int, burst: Int) {
        var pacer = Pacer()
        let rate = Pacer.Rate(perSecond: perSecond, burst: burst)
        let results = self.take(1, of: rate, &pacer, now: MonotonicInstant(nanoseconds: .max / 4))
        #expect(results == [true])
    }

    @Test func nothingAtAllIsNoRateButOneASecond() {
        var pacer = Pacer()
        let rate = Pacer.Rate(perSecond: 0, burst: -1)
        let now = MonotonicInstant(nanoseconds: 0)
        var results = self.take(2, of: rate, &pacer, now: now)
        #expect(results == [true, false])
        results = self.take(1, of: rate, &pacer, now: now + .seconds(1))
        #expect(results == [true])
    }
}

@Suite struct WindowCountTests {
    @Test func admitsAsManyAsTheLimitWithinTheWindow() {
        var count = WindowCount(limit: 3, window: .seconds(64), now: MonotonicInstant(nanoseconds: 0))
        // One portion late, never early; a clock that is read on two threads may come back a little.
        let steps: [(second: Int64, isAdmitted: Bool)] = [
            (0, true), (10, true), (10, true), (20, false), (64, false), (65, true), (74, false), (100_000, true),
            (99_000, true),
        ]
        for step in steps {
            let isAdmitted = count.admit(now: MonotonicInstant(nanoseconds: step.second * 1_000_000_000)) != nil
            #expect(isAdmitted == step.isAdmitted, "at \(step.second) s")
        }
        #expect(count.total == 2)
        var none = WindowCount(limit: 0, window: .seconds(1), now: MonotonicInstant(nanoseconds: 0))
        let isAdmitted = none.admit(now: MonotonicInstant(nanoseconds: 1)) != nil
        #expect(!isAdmitted)
    }

    @Test func whatIsTakenBackMakesRoom() {
        var count = WindowCount(limit: 2, window: .seconds(64), now: MonotonicInstant(nanoseconds: 0))
        func admit(at second: Int64) -> WindowCount.Admission? {
            count.admit(now: MonotonicInstant(nanoseconds: second * 1_000_000_000))
        }
        let early = admit(at: 0)
        let late = admit(at: 60)
        let beyond = admit(at: 60)
        #expect(early != nil && beyond == nil)
        if let late { count.takeBack(late) }
        #expect(count.total == 1)
        let again = admit(at: 61)
        // The first one is forgotten by now.
        let next = admit(at: 66)
        #expect(again != nil && next != nil && count.total == 2)
        // Nothing is taken from those that came since.
        if let early { count.takeBack(early) }
        #expect(count.total == 2)
    }

    @Test(arguments: 0..<10 as Range<UInt64>)
    func agreesWithAList(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var now = MonotonicInstant(nanoseconds: Int64.random(in: 0...1_000_000_000, using: &generator))
        let window = Duration.seconds(1)
        var count = WindowCount(limit: 50, window: window, now: now)
        var admitted: [MonotonicInstant] = []
        for _ in 0..<5000 {
            now = now + .microseconds(Int64.random(in: 0...40_000, using: &generator))
            let (within, almost) = (
                admitted.count { now - $0 < window }, admitted.count { now - $0 <= window + window / 32 }
            )
            if count.admit(now: now) != nil {
                #expect(within < 50, "seed \(seed)")
                admitted.append(now)
            } else {
                #expect(almost >= 50, "seed \(seed)")
            }
        }
    }
}
