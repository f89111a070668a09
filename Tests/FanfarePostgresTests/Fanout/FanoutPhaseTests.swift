import FanfareEngines
import FanfareModel
import FanfarePostgres
import FanfareTesting
import Testing

/// What operators and the streamer make of an event's fan-out.
@Suite struct FanoutPhaseTests {
    private static let open = FanoutPhase()
    private static let held = FanoutPhase(isHeld: true)
    private static let paused = FanoutPhase(state: .paused)
    private static let pausedAndHeld = FanoutPhase(state: .paused, isHeld: true)
    private static let stopped = FanoutPhase(state: .stopped)
    private static let stoppedAndDone = FanoutPhase(state: .stopped, isDone: true)
    private static let cancelled = FanoutPhase(state: .cancelled)
    private static let done = FanoutPhase(isDone: true)
    private static let heldAndDone = FanoutPhase(isHeld: true, isDone: true)

    @Test(arguments: [
        (open, true, held), (open, false, open), (held, true, held), (paused, true, pausedAndHeld),
        (paused, false, paused), (stopped, true, stopped), (cancelled, true, cancelled), (done, true, done),
    ]) func theStreamEnds(from: FanoutPhase, isWithin: Bool, to: FanoutPhase) {
        var phase = from
        phase.streamStopped(isWithinHoldOff: isWithin)
        #expect(phase == to)
    }

    @Test(arguments: [
        (open, open, true), (held, open, true), (pausedAndHeld, paused, true), (done, done, true),
        (heldAndDone, done, true), (cancelled, cancelled, true), (stopped, stopped, false),
        (stoppedAndDone, stoppedAndDone, false),
    ]) func itGoesOn(from: FanoutPhase, to: FanoutPhase, joins: Bool) {
        var phase = from
        #expect(phase.streamResumed() == joins)
        #expect(phase == to)
    }

    @Test(arguments: [
        (open, open, false), (held, stopped, true), (pausedAndHeld, stopped, true), (heldAndDone, done, false),
        (cancelled, cancelled, false), (stopped, stopped, false),
    ]) func theHoldOffPasses(from: FanoutPhase, to: FanoutPhase, givesUp: Bool) {
        var phase = from
        #expect(phase.holdOffPassed() == givesUp)
        #expect(phase == to)
    }

    private static let interferences: [(FanoutPhase, EventControl, FanoutPhase?)] = [
        (open, .pause, paused), (held, .pause, pausedAndHeld), (pausedAndHeld, .resume, held), (paused, .resume, open),
        (done, .resume, done), (done, .pause, nil), (stopped, .pause, nil), (stopped, .resume, nil),
        (stoppedAndDone, .pause, nil), (cancelled, .pause, nil), (cancelled, .resume, nil), (held, .cancel, cancelled),
        (stopped, .cancel, cancelled), (cancelled, .cancel, cancelled),
    ]

    @Test(arguments: interferences) func anOperatorInterferes(
        from: FanoutPhase, control: EventControl, to: FanoutPhase?
    ) {
        var phase = from
        do {
            try phase.control(control)
            #expect(phase == to)
        } catch {
            #expect(to == nil && error.code == 107)
        }
    }

    @Test(arguments: [
        (open, true, EventState.running), (open, false, .waiting), (held, false, .stopped), (held, true, .stopped),
        (paused, true, .paused), (pausedAndHeld, true, .paused), (stopped, true, .stopped),
        (stoppedAndDone, true, .stopped), (cancelled, true, .cancelled), (done, true, .done),
        (heldAndDone, true, .done),
    ]) func shown(phase: FanoutPhase, isRelayed: Bool, state: EventState) {
        #expect(phase.shown(isRelayed: isRelayed) == state)
    }

    /// Whatever happens, in any order: what was given up or cancelled stays so, and nothing is given up that is not held.
    @Test func anyOrder() {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<2000 {
            var phase = FanoutPhase()
            for _ in 0..<8 {
                let before = phase
                switch Int.random(in: 0..<6, using: &generator) {
                case 0: phase.streamStopped(isWithinHoldOff: .random(using: &generator))
                case 1: #expect(phase.streamResumed() == (before.state != .stopped))
                case 2: #expect(phase.holdOffPassed() == (before.isHeld && before.state != .cancelled))
                case 3: try? phase.control(.pause)
                case 4: try? phase.control(.resume)
                default: if Int.random(in: 0..<10, using: &generator) == 0 { try? phase.control(.cancel) }
                }
                if before.state == .cancelled { #expect(phase == before) }
                if before.state == .stopped { #expect(phase.state == .stopped || phase.state == .cancelled) }
                if phase.state == .stopped, before.state != .stopped { #expect(before.isHeld) }
                #expect(!(phase.isHeld && (phase.state == .stopped || phase.state == .cancelled)))
            }
        }
    }
}
