import FanfareModel
import Testing

@testable import FanfareCore

@Suite struct ConcurrencyLimitTests {
    private let configuration = ConcurrencyLimit.Configuration(
        maximum: 4, minimum: 0.1, target: .milliseconds(50), tolerance: 3, window: .milliseconds(100), samples: 5,
        memory: .seconds(300), maximumRest: .seconds(2))
    private let start = MonotonicInstant(nanoseconds: 0)

    /// Equal answers until the limit moves, four windows at the most.
    @discardableResult
    private func window(
        _ limit: inout ConcurrencyLimit, _ now: inout MonotonicInstant, _ latency: Duration, kind: String = "a"
    ) -> ConcurrencyLimit.Move {
        for _ in 0..<45 {
            now = now + .milliseconds(10)
            let move = limit.answered(kind, after: latency, now: now)
            if move != .stayed { return move }
        }
        return .stayed
    }

    /// So many answers over half an hour that they become what is usual.
    private func learn(
        _ limit: inout ConcurrencyLimit, _ now: inout MonotonicInstant, _ latency: Duration, kind: String = "a"
    ) {
        for _ in 0..<400 {
            now = now + .seconds(5)
            limit.answered(kind, after: latency, now: now)
        }
    }

    @Test(arguments: [
        // Usual, now, whether the limit falls: below the target nothing is late, above it three times the usual is.
        (1, 49, false), (1, 51, true), (40, 119, false), (40, 125, true), (1, 1000, true), (200, 20, false),
    ])
    func whatIsLate(usual: Int64, now taken: Int64, falls: Bool) {
        var limit = ConcurrencyLimit(self.configuration, now: self.start)
        var now = self.start
        self.learn(&limit, &now, .milliseconds(usual))
        #expect(limit.limit == 4)
        let before = limit.limit
        let move = self.window(&limit, &now, .milliseconds(taken))
        #expect((move == .decreased) == falls && (limit.limit < before) == falls)
    }

    @Test func fallsFastAndComesBackStepByStep() {
        var limit = ConcurrencyLimit(self.configuration, now: self.start)
        var now = self.start
        self.window(&limit, &now, .milliseconds(1))
        var falls = 0
        while limit.limit > 0.1 {
            let before = limit.limit
            self.window(&limit, &now, .milliseconds(500))
            // At most half at a time, at least a tenth of it.
            #expect(limit.limit >= before * 0.5 - 1e-9 && limit.limit <= max(0.1, before * 0.9))
            falls += 1
        }
        #expect((4...40).contains(falls))
        var rises = 0
        while limit.limit < 4 {
            let before = limit.limit
            self.window(&limit, &now, .milliseconds(1))
            #expect(limit.limit > before && limit.limit <= before + 0.4001)
            rises += 1
        }
        #expect(rises > falls && rises < 60)
    }

    /// One operation that is slow by nature does not make another one pass for late, nor hide that it is.
    @Test func kindsAreToldApart() {
        var limit = ConcurrencyLimit(self.configuration, now: self.start)
        var now = self.start
        self.learn(&limit, &now, .milliseconds(2), kind: "quick")
        self.learn(&limit, &now, .milliseconds(45), kind: "slow")
        #expect(self.window(&limit, &now, .milliseconds(120), kind: "slow") != .decreased)
        #expect(self.window(&limit, &now, .milliseconds(120), kind: "quick") == .decreased)
        // Any number of kinds takes a bounded memory.
        for number in 0..<1000 { limit.answered("kind \(number)", after: .milliseconds(1), now: now) }
    }

    @Test func whereNobodyAsksNothingIsSlow() {
        var limit = ConcurrencyLimit(self.configuration, now: self.start)
        var now = self.start
        for _ in 0..<30 { self.window(&limit, &now, .milliseconds(900)) }
        #expect(limit.limit == 0.1)
        for _ in 0..<200 {
            now = now + .milliseconds(100)
            limit.passed(now: now)
        }
        #expect(limit.limit == 4)
        // A few slow answers count too, after four windows.
        limit.answered("a", after: .seconds(2), now: now)
        var moves: [ConcurrencyLimit.Move] = []
        for _ in 0..<4 {
            now = now + .milliseconds(100)
            moves.append(limit.passed(now: now))
        }
        #expect(moves.count { $0 == .decreased } == 1)
    }

    @Test func belowOneTheWorkRests() {
        var limit = ConcurrencyLimit(self.configuration, now: self.start)
        var now = self.start
        while limit.limit > 0.1 { self.window(&limit, &now, .milliseconds(900)) }
        #expect(limit.admit(now: now) == true)
        #expect(limit.admit(now: now) == false)
        now = now + .milliseconds(100)
        limit.finished(after: .milliseconds(100), now: now)
        // A tenth of the time: nine times as long as it worked.
        #expect(limit.admit(now: now + .milliseconds(899)) == false)
        #expect(limit.admit(now: now + .milliseconds(901)) == true)
        limit.finished(after: .seconds(60), now: now)
        #expect(limit.admit(now: now + .milliseconds(1999)) == false)
        #expect(limit.admit(now: now + .milliseconds(2001)) == true)
    }

    @Test func whatIsUnderWayIsCounted() {
        var limit = ConcurrencyLimit(self.configuration, now: self.start)
        for _ in 0..<4 { #expect(limit.admit(now: self.start) == true) }
        #expect(limit.admit(now: self.start) == false)
        #expect(limit.underWay == 4)
        limit.finished(after: .zero, now: self.start)
        #expect(limit.admit(now: self.start) == true)
        for _ in 0..<9 { limit.finished(after: .zero, now: self.start) }
        #expect(limit.underWay == 0)
    }

    /// Whatever comes: the limit stays in its bounds, no more is under way than it allows, and work is never stopped for
    /// good.
    @Test(arguments: 0..<20 as Range<UInt64>) func anything(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var limit = ConcurrencyLimit(self.configuration, now: self.start)
        var now = self.start
        var lastAdmission = now
        for _ in 0..<3000 {
            now = now + .milliseconds(Int64.random(in: 0...60, using: &generator))
            switch Int.random(in: 0..<6, using: &generator) {
            case 0, 1:
                let slow = Bool.random(using: &generator) ? 2000 : 20
                limit.answered(
                    Bool.random(using: &generator) ? "a" : "b",
                    after: .milliseconds(Int64.random(in: -5...Int64(slow), using: &generator)), now: now)
            case 2: limit.passed(now: now)
            case 3 where limit.underWay > 0:
                limit.finished(after: .milliseconds(Int64.random(in: 0...5000, using: &generator)), now: now)
            default:
                let before = limit.underWay
                if limit.admit(now: now) {
                    #expect(before < max(1, Int(limit.limit)), "seed \(seed)")
                    lastAdmission = now
                } else if before == 0 {
                    #expect(now - lastAdmission <= .seconds(20), "seed \(seed)")
                }
            }
            #expect(limit.limit >= 0.1 && limit.limit <= 4, "seed \(seed)")
        }
        while limit.underWay > 0 { limit.finished(after: .seconds(9), now: now) }
        let isAdmitted = limit.admit(now: now + .seconds(2))
        #expect(isAdmitted, "seed \(seed)")
    }

    /// A database whose answers take longer the more bulk work runs: the limit settles where they are soon enough.
    @Test(arguments: [(20, 2.4), (60, 0.8), (200, 0.25)]) func settles(costPerPiece: Int64, about: Double) {
        var limit = ConcurrencyLimit(self.configuration, now: self.start)
        var now = self.start
        var sum = 0.0
        for round in 0..<400 {
            let latency = Duration.milliseconds(2) + .nanoseconds(Int64(Double(costPerPiece) * limit.limit * 1e6))
            self.window(&limit, &now, latency)
            if round >= 200 { sum += limit.limit }
        }
        let mean = sum / 200
        #expect(mean > about * 0.5 && mean < about * 1.6, "\(mean)")
    }
}
