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

    @Test func phasesStayWithinThePeriod() {
        #expect(Phase.first(in: .zero, random: 9) == .zero)
        #expect(Phase.first(in: .seconds(25), random: .max) < .seconds(25))
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

@Suite struct TimingWheelTests {
    @Test func firesOnceNotEarlyAndAtMostOneTickLate() throws {
        for seed in 0..<10 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            var now = MonotonicInstant(nanoseconds: Int64.random(in: 0...1_000_000_000, using: &generator))
            let tick = Duration.milliseconds(10)
            var wheel = TimingWheel<Int>(tick: tick, slots: 16, capacity: 500, now: now)
            var waiting: [Int: (deadline: MonotonicInstant, token: TimingWheel<Int>.Token)] = [:]
            var next = 0
            for _ in 0..<3000 {
                switch Int.random(in: 0..<4, using: &generator) {
                case 0, 1:
                    let deadline = now + .microseconds(Int64.random(in: -1000...1_000_000, using: &generator))
                    if let token = wheel.add(next, at: deadline) {
                        waiting[next] = (deadline, token)
                    } else {
                        #expect(waiting.count == 500, "seed \(seed)")
                    }
                    next += 1
                case 2:
                    guard let id = waiting.keys.min(), let timer = waiting.removeValue(forKey: id) else { continue }
                    let cancelled = [wheel.cancel(timer.token), wheel.cancel(timer.token)]
                    #expect(cancelled == [true, false], "seed \(seed)")
                default:
                    now = now + .microseconds(Int64.random(in: 0...30_000, using: &generator))
                    for id in wheel.advance(to: now) {
                        let removed = waiting.removeValue(forKey: id)
                        let timer = try #require(removed, "seed \(seed)")
                        #expect(timer.deadline <= now, "seed \(seed)")
                        let cancelled = wheel.cancel(timer.token)
                        #expect(!cancelled, "seed \(seed)")
                    }
                    for timer in waiting.values { #expect(timer.deadline + tick > now, "seed \(seed)") }
                }
                #expect(wheel.count == waiting.count, "seed \(seed)")
                #expect((wheel.nextTick == nil) == waiting.isEmpty, "seed \(seed)")
            }
        }
    }

    @Test func aLongPauseFiresEverything() {
        let start = MonotonicInstant(nanoseconds: 0)
        var wheel = TimingWheel<Int>(tick: .milliseconds(1), slots: 4, capacity: 100, now: start)
        for index in 0..<100 { _ = wheel.add(index, at: start + .milliseconds(Int64(index))) }
        #expect(Set(wheel.advance(to: start + .seconds(3600))) == Set(0..<100))
        #expect(wheel.nextTick == nil)
        #expect(wheel.add(1, at: start + .seconds(3600)) != nil)
        #expect(wheel.advance(to: start + .seconds(3600)).isEmpty)
        #expect(wheel.advance(to: start + .milliseconds(3_600_001)) == [1])
    }
}
