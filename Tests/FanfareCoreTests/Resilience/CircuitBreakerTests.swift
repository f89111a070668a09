import FanfareModel
import Testing

@testable import FanfareCore

@Suite struct CircuitBreakerTests {
    private enum Step {
        case fail(to: CircuitBreaker.State)
        case succeed(to: CircuitBreaker.State)
        case wait(milliseconds: Int64)
        case allowed
        case probe
        case refused
    }

    private func walk(_ steps: [Step], _ configuration: CircuitBreaker.Configuration) {
        var breaker = CircuitBreaker(configuration)
        var now = MonotonicInstant(nanoseconds: 0)
        for (index, step) in steps.enumerated() {
            switch step {
            case .fail(let state):
                let before = breaker.state
                let transition = breaker.failed(now: now, random: .max)
                #expect(breaker.state == state, "step \(index)")
                #expect((transition != nil) == (before != state), "step \(index)")
                if let transition { #expect(transition.from == before && transition.to == state) }
            case .succeed(let state):
                let before = breaker.state
                let transition = breaker.succeeded(now: now)
                #expect(breaker.state == state, "step \(index)")
                #expect((transition != nil) == (before != state), "step \(index)")
            case .wait(let milliseconds): now = now + .milliseconds(milliseconds)
            case .allowed: #expect(breaker.allow(now: now) == .proceed, "step \(index)")
            case .probe: #expect(breaker.allow(now: now) == .probe, "step \(index)")
            case .refused:
                guard case .refuse(let after) = breaker.allow(now: now) else {
                    Issue.record("step \(index): not refused")
                    return
                }
                #expect(after > .zero, "step \(index)")
            }
        }
    }

    private let three = CircuitBreaker.Configuration(
        consecutiveFailures: 3, failureRatio: 2, openTime: .milliseconds(100), maximumOpenTime: .milliseconds(400),
        probeTimeout: .milliseconds(1000))

    @Test func opensAfterConsecutiveFailuresAndClosesByOneProbe() {
        self.walk(
            [
                .fail(to: .closed), .fail(to: .closed), .succeed(to: .closed), .fail(to: .closed), .fail(to: .closed),
                .allowed, .fail(to: .open), .refused, .wait(milliseconds: 100), .probe, .refused, .refused,
                .succeed(to: .closed), .allowed,
            ], self.three)
    }

    @Test func lateResultsWhileOpenChangeNothing() {
        self.walk(
            [
                .fail(to: .closed), .fail(to: .closed), .fail(to: .open), .succeed(to: .open), .fail(to: .open),
                .refused,
            ], self.three)
    }

    @Test func aLostProbeIsReplaced() {
        self.walk(
            [
                .fail(to: .closed), .fail(to: .closed), .fail(to: .open), .wait(milliseconds: 100), .probe,
                .wait(milliseconds: 999), .refused, .wait(milliseconds: 1), .probe, .refused, .succeed(to: .closed),
            ], self.three)
    }

    @Test func openTimeGrowsToItsMaximumAndResetsWithSuccess() {
        var breaker = CircuitBreaker(self.three)
        var generator = SeededGenerator(seed: 1)
        var now = MonotonicInstant(nanoseconds: 0)
        var ceilings: [Int64] = []
        for ceiling in [100, 200, 400, 400, 400] as [Int64] {
            var transition: CircuitBreaker.Transition?
            repeat { transition = breaker.failed(now: now, random: generator.next()) } while transition == nil
            guard let transition else { return }
            let milliseconds = Double(transition.openFor.nanoseconds) / 1e6
            #expect(milliseconds >= Double(ceiling) / 2 && milliseconds <= Double(ceiling))
            now = now + transition.openFor
            #expect(breaker.allow(now: now) == .probe)
            ceilings.append(ceiling)
        }
        #expect(breaker.succeeded(now: now)?.to == .closed)
        var first: CircuitBreaker.Transition?
        repeat { first = breaker.failed(now: now, random: generator.next()) } while first == nil
        #expect((first?.openFor ?? .seconds(9)) <= .milliseconds(100))
    }

    @Test func opensByRatioWithinTheWindowOnly() {
        let configuration = CircuitBreaker.Configuration(
            consecutiveFailures: 1000, failureRatio: 0.5, minimumCalls: 10, window: .seconds(1))
        var breaker = CircuitBreaker(configuration)
        var now = MonotonicInstant(nanoseconds: 5)
        for _ in 0..<9 { #expect(breaker.failed(now: now, random: 0) == nil) }
        // Out of the window: they no longer count.
        now = now + .seconds(2)
        #expect(breaker.failed(now: now, random: 0) == nil)
        for _ in 0..<9 { breaker.succeeded(now: now) }
        for _ in 0..<7 { #expect(breaker.failed(now: now, random: 0) == nil) }
        #expect(breaker.failed(now: now, random: 0)?.to == .open)
    }

    @Test(arguments: 0..<20 as Range<UInt64>) func atMostOneProbeAtATime(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var breaker = CircuitBreaker(self.three)
        var now = MonotonicInstant(nanoseconds: 0)
        var probeSince: MonotonicInstant?
        for _ in 0..<2000 {
            now = now + .milliseconds(Int64.random(in: 0...40, using: &generator))
            switch breaker.allow(now: now) {
            case .probe:
                if let probeSince { #expect(now >= probeSince + .milliseconds(1000), "seed \(seed)") }
                probeSince = now
            case .proceed: #expect(breaker.state == .closed, "seed \(seed)")
            case .refuse(let after): #expect(after > .zero, "seed \(seed)")
            }
            if Bool.random(using: &generator) {
                let transition =
                    Bool.random(using: &generator)
                    ? breaker.succeeded(now: now) : breaker.failed(now: now, random: generator.next())
                if transition != nil { probeSince = nil }
            }
        }
    }

    @Test func tellsWhenToComeBack() {
        var breaker = CircuitBreaker(self.three)
        var now = MonotonicInstant(nanoseconds: 0)
        #expect(breaker.retryAfter(now: now) == nil && !breaker.wantsProbe(now: now))
        for _ in 0..<3 { breaker.failed(now: now, random: .max) }
        let openFor = breaker.retryAfter(now: now) ?? .zero
        #expect(openFor > .milliseconds(49) && openFor <= .milliseconds(100) && !breaker.wantsProbe(now: now))
        now = now + openFor
        #expect(breaker.wantsProbe(now: now) && (breaker.retryAfter(now: now) ?? .zero) > .zero)
        #expect(breaker.allow(now: now) == .probe)
        #expect(!breaker.wantsProbe(now: now) && breaker.retryAfter(now: now) == .milliseconds(100))
        // The probe is lost: there is another one.
        #expect(breaker.wantsProbe(now: now + .milliseconds(1000)))
    }

    @Test func aNewLinkBeginsAnew() {
        var breaker = CircuitBreaker(self.three)
        let now = MonotonicInstant(nanoseconds: 0)
        breaker.failed(now: now, random: 0)
        breaker.failed(now: now, random: 0)
        #expect(breaker.replaced() == nil)
        for _ in 0..<2 { #expect(breaker.failed(now: now, random: 0) == nil) }
        #expect(breaker.failed(now: now, random: 0)?.to == .open)
        #expect(breaker.replaced()?.to == .closed)
        #expect(breaker.allow(now: now) == .proceed)
    }

    @Test func theWorstOfSeveral() {
        #expect(CircuitBreaker.State.worst([]) == "closed")
        #expect(CircuitBreaker.State.worst(["closed", "half_open"]) == "half_open")
        #expect(CircuitBreaker.State.worst(["half_open", "open", "closed"]) == "open")
    }

    @Test func stateNames() {
        #expect(CircuitBreaker.State.allCases.map(\.rawValue) == ["closed", "open", "half_open"])
    }
}
