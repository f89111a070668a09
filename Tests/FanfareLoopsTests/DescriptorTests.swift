import FanfareCore
import FanfareLoops
import Glibc
import Synchronization
import Testing

/// Calls a closure when its descriptor is ready. Safe to share: the closure is sendable.
private final class ClosureHandler: DescriptorHandler, Sendable {
    private let body: @Sendable (_ readable: Bool, _ writable: Bool, _ hangup: Bool) -> Void
    init(_ body: @escaping @Sendable (_ readable: Bool, _ writable: Bool, _ hangup: Bool) -> Void) { self.body = body }
    func ready(readable: Bool, writable: Bool, hangup: Bool) { self.body(readable, writable, hangup) }
}

@Suite struct DescriptorTests {
    @Test func tellsWhenThereIsSomethingToRead() async throws {
        let loop = try EdgeLoop(name: "test")
        defer { loop.stop() }
        let (near, far) = socketPair()
        let recorder = Recorder()
        try await onLoop(loop) {
            try loop.register(
                descriptor: near, .readable,
                handler: ClosureHandler { readable, _, _ in
                    guard readable else { return }
                    let buffer = loop.receiveBuffer
                    recorder.append(read(near, buffer.baseAddress, buffer.count))
                })
        }
        #expect(write(far, "hello", 5) == 5)
        try await eventually(on: loop) { recorder.values == [5] }
        try await onLoop(loop) {
            loop.deregister(descriptor: near)
            loop.deregister(descriptor: near)
        }
        close(near)
        close(far)
    }

    @Test func tellsOfWritabilityAndHangup() async throws {
        let loop = try EdgeLoop(name: "test")
        defer { loop.stop() }
        let (near, far) = socketPair()
        let recorder = Recorder()
        try await onLoop(loop) {
            try loop.register(
                descriptor: near, .writable,
                handler: ClosureHandler { _, writable, hangup in
                    if hangup {
                        recorder.append(2)
                        loop.deregister(descriptor: near)
                    } else if writable {
                        recorder.append(1)
                        try? loop.modify(descriptor: near, .peerClosed)
                    }
                })
        }
        try await eventually(on: loop) { recorder.values == [1] }
        close(far)
        try await eventually(on: loop) { recorder.values == [1, 2] }
        close(near)
    }

    /// Both are ready in one turn; whichever comes first deregisters the other and recycles its number.
    @Test func anEventOfThePredecessorNeverReachesARecycledDescriptor() async throws {
        let loop = try EdgeLoop(name: "test")
        defer { loop.stop() }
        let (nearA, farA) = socketPair()
        let (nearB, farB) = socketPair()
        let (idle, idleFar) = socketPair()
        let stale = Recorder()
        let calls = Recorder()
        try await onLoop(loop) {
            let recycle: @Sendable (CInt, CInt) -> Void = { mine, other in
                calls.append(Int(mine))
                loop.deregister(descriptor: mine)
                loop.deregister(descriptor: other)
                // The number now belongs to a socket on which nothing happens.
                #expect(dup2(idle, other) == other)
                #expect(throws: Never.self) {
                    try loop.register(
                        descriptor: other, .readable, handler: ClosureHandler { _, _, _ in stale.append(Int(other)) })
                }
            }
            try loop.register(
                descriptor: nearA, .readable, handler: ClosureHandler { _, _, _ in recycle(nearA, nearB) })
            try loop.register(
                descriptor: nearB, .readable, handler: ClosureHandler { _, _, _ in recycle(nearB, nearA) })
            // Still within one turn: the next wait finds both ready.
            #expect(write(farA, "a", 1) == 1)
            #expect(write(farB, "b", 1) == 1)
        }
        try await eventually(on: loop) { !calls.values.isEmpty }
        try await onLoop(loop) {}
        #expect(calls.values.count == 1)
        #expect(stale.values.isEmpty)
        for descriptor in [nearA, farA, nearB, farB, idle, idleFar] { close(descriptor) }
    }

    @Test func refusesWhatCannotBeWatched() async throws {
        let loop = try EdgeLoop(name: "test")
        defer { loop.stop() }
        let (near, far) = socketPair()
        let handler = ClosureHandler { _, _, _ in }
        try await onLoop(loop) {
            #expect(throws: SystemError.self) { try loop.register(descriptor: -1, .readable, handler: handler) }
            #expect(throws: SystemError.self) { try loop.modify(descriptor: near, .readable) }
            try loop.register(descriptor: near, .readable, handler: handler)
            #expect(throws: SystemError("epoll_ctl", number: EEXIST)) {
                try loop.register(descriptor: near, .readable, handler: handler)
            }
            loop.deregister(descriptor: near)
        }
        close(near)
        close(far)
    }

    @Test func aHandlerIsReleasedWhenItsDescriptorIsWatchedNoLonger() async throws {
        let loop = try EdgeLoop(name: "test")
        defer { loop.stop() }
        let (near, far) = socketPair()
        try await onLoop(loop) {
            weak var observer: ClosureHandler?
            do {
                let handler = ClosureHandler { _, _, _ in }
                observer = handler
                try loop.register(descriptor: near, .readable, handler: handler)
            }
            #expect(observer != nil)
            loop.deregister(descriptor: near)
            #expect(observer == nil)
        }
        close(near)
        close(far)
    }
}
