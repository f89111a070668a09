import FanfareFabric
import Testing

@Suite struct BatchPaceTests {
    @Test(arguments: [
        // microseconds per row, the limit it comes to
        (1, 10_000), (5, 10_000), (20, 2500), (50, 1000), (1000, 200),
    ]) func comesToTheTarget(cost: Int, limit: Int) {
        var pace = BatchPace(least: 200, most: 10_000, target: .milliseconds(50))
        for _ in 0..<50 { pace.wrote(pace.limit, in: .microseconds(cost * pace.limit)) }
        #expect(abs(pace.limit - limit) <= limit / 100)
    }

    @Test func whatIsNotFullSaysNothing() {
        var pace = BatchPace(least: 200, most: 10_000, target: .milliseconds(50))
        let before = pace
        pace.wrote(pace.limit / 2 - 1, in: .seconds(10))
        pace.wrote(pace.limit, in: .zero)
        #expect(pace == before && pace.limit == 2500)
        pace.wrote(pace.limit, in: .seconds(10))
        #expect(pace.limit == 1250)
    }

    @Test func oneRowAtLeast() {
        var pace = BatchPace(least: 200, most: 1, target: .milliseconds(50))
        pace.wrote(1, in: .seconds(1))
        #expect(pace.limit == 1)
    }
}
