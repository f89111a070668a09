import FanfareCore
import FanfareEngines
import FanfareModel
import FanfarePostgres
import Synchronization
import Testing

@Suite struct BulkGateTests {
    private func gate(maximum: Double = 1, waiting: Int = 2, time: Duration = .seconds(30)) -> BulkGate {
        var bounds = BulkGate.Bounds()
        bounds.waiting = waiting
        bounds.time = time
        return BulkGate(ConcurrencyLimit.Configuration(maximum: maximum), bounds: bounds, logger: .silent)
    }

    @Test func thoseWhoWaitAreBounded() async throws {
        let gate = self.gate()
        try await gate.acquire()
        let turns = Shared(0)
        try await withThrowingTaskGroup { group in
            for _ in 0..<2 {
                group.addTask {
                    try await gate.acquire()
                    turns.change { $0 += 1 }
                }
            }
            try await eventually { gate.waiting == 2 }
            #expect(await engineCode { try await gate.acquire() } == .overloaded)
            #expect(turns.value == 0)
            // One turn for one end.
            gate.release(after: .zero)
            try await eventually { turns.value == 1 }
            #expect(gate.waiting == 1)
            gate.release(after: .zero)
            try await group.waitForAll()
        }
        #expect(turns.value == 2)
    }

    @Test func waitingEnds() async throws {
        let gate = self.gate(time: .milliseconds(20))
        try await gate.acquire()
        async let late = engineCode { try await gate.acquire() }
        try await eventually { gate.waiting == 1 }
        try await eventually {
            gate.tick()
            return gate.waiting == 0
        }
        #expect(await late == .overloaded)
        let stopped = self.gate()
        try await stopped.acquire()
        async let vain = engineCode { try await stopped.acquire() }
        try await eventually { stopped.waiting == 1 }
        stopped.stop()
        #expect(await vain == .unavailable)
        #expect(await engineCode { try await stopped.acquire() } == .unavailable)
    }

    private struct Measured {
        var reads = 0
        var lowestLimit = Double.infinity
        var bulk = 0
    }

    /// Bulk work that keeps the inbox locked for 60 ms at a time, from four workers, and readers of that inbox beside it.
    private func contend(givesWay: Bool) async throws -> Measured {
        let measured = Shared(Measured())
        try await Database.withStore({
            $0.fanoutConnections = 4
            $0.bulkGivesWay = givesWay
            $0.bulkLimit.target = .milliseconds(20)
        }) { store, _ in
            let ada = try user("ada")
            try await store.ensureUsers([ada])
            try await eventually { store.health.isReachable }
            let end = ContinuousClock.now + .seconds(4)
            try await withThrowingTaskGroup { group in
                for _ in 0..<4 {
                    group.addTask {
                        while ContinuousClock.now < end {
                            try await store.bulk("heavy") { session in
                                try session.transaction {
                                    try session.script("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE")
                                    try session.script("SELECT pg_sleep(0.06)")
                                }
                            }
                            measured.change { $0.bulk += 1 }
                        }
                    }
                }
                for _ in 0..<3 {
                    group.addTask {
                        while ContinuousClock.now < end {
                            _ = try await store.inbox(of: ada, after: nil, limit: 10)
                            let limit = store.gate.limit
                            measured.change { measured in
                                measured.reads += 1
                                measured.lowestLimit = min(measured.lowestLimit, limit)
                            }
                            // Readers come at a pace; nothing is waited for.
                            try await Task.sleep(for: .milliseconds(1))
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
        return measured.value
    }

    @Test func theFanoutSlowsDownBeforeTheReaders() async throws {
        let heedless = try await self.contend(givesWay: false)
        let heedful = try await self.contend(givesWay: true)
        print(
            "reads without giving way: \(heedless.reads), with: \(heedful.reads); bulk: \(heedless.bulk), \(heedful.bulk)"
        )
        #expect(heedless.lowestLimit == 4 && heedful.lowestLimit < 1)
        #expect(heedful.reads >= 3 * heedless.reads)
        // It gives way, and it goes on.
        #expect(heedful.bulk < heedless.bulk && heedful.bulk >= 3)
    }

    @Test func withoutReadersNothingSlowsDown() async throws {
        try await Database.withStore({ $0.fanoutConnections = 2 }) { store, _ in
            try await store.ensureUsers([try user("ada")])
            for _ in 0..<20 { try await store.bulk("light") { session in try session.script("SELECT pg_sleep(0.01)") } }
            #expect(store.gate.limit == 2)
        }
    }
}

/// What several tasks change.
private final class Shared<Value: Sendable>: Sendable {
    private let mutex: Mutex<Value>

    init(_ value: Value) { self.mutex = Mutex(value) }

    var value: Value { self.mutex.withLock { $0 } }

    func change(_ body: (inout Value) -> Void) { self.mutex.withLock { body(&$0) } }
}
