import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareTesting
import Synchronization
import Testing

@Suite("The in-memory broker")
struct MemoryBrokerTests {
    private static func at(_ seconds: Int64) -> MonotonicInstant {
        MonotonicInstant(nanoseconds: seconds * 1_000_000_000)
    }

    /// A state with a member, and fences for all slots.
    private static func begin(_ limits: MemoryBrokerState.Limits = .init()) throws -> MemoryBrokerState {
        var state = MemoryBrokerState(limits: limits)
        let member = Member(node: NodeID("n"), incarnation: "i", address: "")
        let view = try state.heartbeat(member, lease: .seconds(1_000_000), newGeneration: "g", now: Self.at(0)).view
        for slot in Slot.all { _ = try state.claim(slot, view: view.number, node: member.node, incarnation: "i") }
        return state
    }

    @discardableResult
    private static func append(
        _ room: String, _ body: Bytes, _ state: inout MemoryBrokerState, key: String? = nil,
        retention: Retention = Retention(), at seconds: Int64
    ) throws -> RoomAppendOutcome? {
        let slot = Slot(of: room)
        guard let fence = state.fence(of: slot) else { return nil }
        let stored = try state.open(room, fence: fence, newEpoch: "e", retention: retention, now: Self.at(seconds))
        let append = RoomAppend(
            room: room, expected: stored.top, entries: [AppendEntry(body: body, idempotencyKey: key)],
            retention: retention)
        return try state.append([append], slot: slot, fence: fence, now: Self.at(seconds)).outcomes.first
    }

    @Test("limits refuse, and what expires makes room")
    func limits() throws {
        var state = try Self.begin(.init(rooms: 3, bytes: 100, idempotencyKeys: 2))
        let retention = Retention(
            time: .seconds(10), positionTime: .seconds(20), idempotencyWindow: .seconds(5))
        var outcomes: [AppendedEntry.Outcome] = []
        func append(_ room: String, _ count: Int, key: String? = nil, at seconds: Int64) -> EngineError.Code? {
            do {
                let outcome = try Self.append(
                    room, Bytes(repeating: 0, count: count), &state, key: key, retention: retention, at: seconds)
                if case .appended(let entries) = outcome { outcomes += entries.map(\.outcome) }
                return nil
            } catch {
                return (error as? EngineError)?.code
            }
        }
        #expect(append("room:1", 60, key: "a", at: 0) == nil)
        #expect(append("room:2", 30, key: "b", at: 0) == nil)
        // At the limit of keys a new one is refused by itself, and a known one passes.
        #expect(append("room:1", 1, key: "c", at: 0) == nil)
        #expect(append("room:1", 1, key: "a", at: 0) == nil)
        #expect(outcomes == [.appended, .appended, .unknownKey, .duplicate])
        #expect(state.storedBytes == 90 && state.storedIdempotencyKeys == 2)
        #expect(append("room:1", 11, at: 0) == .overloaded)
        #expect(append("room:3", 10, at: 0) == nil)
        #expect(append("room:4", 0, at: 0) == .overloaded)
        #expect(state.storedBytes == 100)
        #expect(append("room:1", 0, key: "c", at: 6) == nil)
        #expect(outcomes.last == .appended)
        #expect(state.storedIdempotencyKeys <= 2)
        state.sweep(rooms: 10, now: Self.at(11))
        #expect(state.storedBytes == 60)
        #expect(append("room:2", 40, at: 12) == nil)
        state.sweep(rooms: 10, now: Self.at(27))
        #expect(state.roomCount == 1)
        #expect(state.storedBytes == 0)
        #expect(state.storedIdempotencyKeys == 0)
    }

    @Test("the sweep frees rooms that nobody asks for, little by little")
    func sweep() throws {
        var state = try Self.begin()
        let short = Retention(time: .seconds(1), positionTime: .seconds(2))
        for number in 0..<1000 { try Self.append("room:\(number)", [1], &state, key: "k", retention: short, at: 0) }
        #expect(state.roomCount == 1000)
        for turn in 0..<600 { try Self.append("room:long", [1], &state, at: 3 + Int64(turn) / 1000) }
        #expect(state.roomCount == 1)
        #expect(state.storedIdempotencyKeys == 0)
        #expect(state.storedBytes == 300)
    }

    @Test("a copy is a snapshot, and rooms tell that they may have been rolled back")
    func rollBack() throws {
        var state = try Self.begin()
        try Self.append("room:1", [1], &state, at: 0)
        let snapshot = state
        try Self.append("room:1", [2], &state, at: 0)
        state.rollBack(to: snapshot)
        #expect(state.read("room:1", since: 0, limit: 5, now: Self.at(0))?.bodies == [[1]])
        let member = Member(node: NodeID("n"), incarnation: "i", address: "")
        let slot = Slot(of: "room:1")
        let held = try #require(state.fence(of: slot))
        let view = try state.heartbeat(member, lease: .seconds(60), newGeneration: "g", now: Self.at(0)).view
        let fence = try state.claim(slot, view: view.number, node: member.node, incarnation: "i", held: held)
        #expect(fence == held)
        func mayHaveRolledBack() throws -> Bool {
            try state.open("room:1", fence: fence, newEpoch: "", retention: Retention(), now: Self.at(0))
                .mayHaveRolledBack
        }
        #expect(try mayHaveRolledBack())
        try Self.append("room:1", [3], &state, at: 0)
        #expect(try !mayHaveRolledBack())
        state.wipe()
        #expect(state.read("room:1", since: 0, limit: 5, now: Self.at(0)) == nil)
        #expect(state.view == nil)
    }

    @Test("a loop that falls behind loses deliveries, and is told")
    func mailbox() async throws {
        let loop = ManualLoop()
        let hub = MemoryHub(clock: { loop.now })
        let broker = MemoryBroker(node: NodeID("n"), hub: hub, loop: loop, deliveryByteLimit: 10_000)
        let receiver = RecordingReceiver()
        broker.start(receiver: receiver)
        for number in 0..<100 as Range<UInt8> {
            _ = try await broker.send(Bytes(repeating: number, count: 1000), to: NodeID("n"))
        }
        #expect(receiver.events.isEmpty)
        #expect(loop.runAll() == 1)
        #expect(receiver.messages.last?.first == 99)
        #expect(receiver.messages.count < 12)
        #expect(receiver.events.prefix(2) == [.linkLost, .linkRestored])
        await broker.stop()
        let code: EngineError.Code?
        do {
            try await broker.sendToAll([])
            code = nil
        } catch { code = error.code }
        #expect(code == .unavailable)
    }
}

/// Runs what was given to it when it is told to.
private final class ManualLoop: Loop {
    private let waiting = Mutex<[@Sendable () -> Void]>([])

    var now: MonotonicInstant { MonotonicInstant(nanoseconds: 0) }
    func execute(_ body: @escaping @Sendable () -> Void) { self.waiting.withLock { $0.append(body) } }

    func schedule(at deadline: MonotonicInstant, _ body: @escaping @Sendable () -> Void) -> ScheduledCall {
        ScheduledCall {}
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        self.execute { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }

    /// - Returns: how many there were.
    func runAll() -> Int {
        let bodies = self.waiting.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
        for body in bodies { body() }
        return bodies.count
    }
}
