import FanfareModel
import Testing

@testable import FanfareRedis

@Suite("The delivery probe")
struct DeliveryProbeTests {
    private let timeout = Duration.milliseconds(1500)
    private func at(_ milliseconds: Int64) -> MonotonicInstant {
        MonotonicInstant(nanoseconds: milliseconds * 1_000_000)
    }

    @Test("what arrives in time is no problem, in whichever order it is told")
    func healthy() {
        var probe = DeliveryProbe()
        for turn in 0..<100 as Range<Int64> {
            #expect(probe.problem(now: at(turn * 500), timeout: timeout) == nil)
            let number = probe.next(now: at(turn * 500))
            probe.heard()
            if turn.isMultiple(of: 2) { probe.arrived(number) }
            probe.published(number, at: at(turn * 500))
            probe.arrived(number)
        }
    }

    @Test("pings answered, probes published, nothing delivered")
    func silentDelivery() {
        var probe = DeliveryProbe()
        for turn in 0..<3 as Range<Int64> {
            let number = probe.next(now: at(turn * 500))
            probe.heard()
            probe.published(number, at: at(turn * 500))
        }
        #expect(probe.problem(now: at(1499), timeout: timeout) == nil)
        #expect(probe.problem(now: at(1500), timeout: timeout) != nil)
        probe.arrived(3)
        #expect(probe.problem(now: at(9000), timeout: timeout) == nil)
    }

    @Test("where nothing can be published only silence counts")
    func unpublished() {
        var probe = DeliveryProbe()
        _ = probe.next(now: at(0))
        _ = probe.next(now: at(500))
        #expect(probe.problem(now: at(1499), timeout: timeout) == nil)
        #expect(probe.problem(now: at(1500), timeout: timeout) != nil)
        probe.heard()
        #expect(probe.problem(now: at(9000), timeout: timeout) == nil)
    }
}
