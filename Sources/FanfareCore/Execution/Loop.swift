package import FanfareModel

/// Where actors live: an executor with a clock and timers. In production an epoll loop of one thread, in the simulation a
/// seeded scheduler. All time and all ordering of the fabric come from here.
///
/// Actors of a loop start their tasks with `loop.task`, never with a bare `Task`: there a continuation resumes on the global
/// pool first and hops to the actor from there, with two wake-ups of sleeping threads and in an order that no seed decides.
package protocol Loop: SerialExecutor, TaskExecutor {
    /// Monotonic; the same for all loops of a process.
    var now: MonotonicInstant { get }

    /// Runs `body` on this loop, after what was given to it before. Callable from any thread.
    func execute(_ body: @escaping @Sendable () -> Void)

    /// Runs `body` on this loop at `deadline` or soon after. Callable from any thread.
    @discardableResult
    func schedule(at deadline: MonotonicInstant, _ body: @escaping @Sendable () -> Void) -> ScheduledCall
}

extension Loop {
    /// Starts a task of the calling actor that stays on this loop, also after it was suspended. Tasks begin in the order in
    /// which they were started.
    @discardableResult
    package func task<Success: Sendable>(
        @_inheritActorContext _ body: sending @escaping @isolated(any) () async -> Success
    ) -> Task<Success, Never> {
        Task(executorPreference: self) { await body() }
    }

    @discardableResult
    package func schedule(after delay: Duration, _ body: @escaping @Sendable () -> Void) -> ScheduledCall {
        self.schedule(at: self.now + delay, body)
    }

    /// Suspends the caller for `delay` by this loop's clock. Not cancellable: use it for short, bounded waits.
    package func sleep(for delay: Duration) async {
        await withCheckedContinuation { continuation in
            self.schedule(after: delay) { continuation.resume() }
        }
    }
}

/// A call that waits for its time.
package struct ScheduledCall: Sendable {
    private let onCancel: @Sendable () -> Void
    package init(onCancel: @escaping @Sendable () -> Void) { self.onCancel = onCancel }
    /// Harmless after the call has run, and callable from any thread.
    package func cancel() { self.onCancel() }
}

/// What differs between a real node and a simulated one besides its loops.
package struct Surroundings: Sendable {
    /// For what people read.
    package var wallClock: @Sendable () -> Timestamp
    /// 64 random bits: from the system, or from the simulation's seed.
    package var random: @Sendable () -> UInt64

    package init(
        wallClock: @escaping @Sendable () -> Timestamp, random: @escaping @Sendable () -> UInt64
    ) {
        self.wallClock = wallClock
        self.random = random
    }

    /// A random id of 32 hexadecimal digits in the layout of a UUID (RFC 9562, version 4).
    package func uuid() -> String {
        let high = self.random() & 0xffff_ffff_ffff_0fff | 0x4000
        let low = self.random() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000
        let digits = Surroundings.hexadecimal(high) + Surroundings.hexadecimal(low)
        var uuid = ""
        for (index, digit) in digits.enumerated() {
            if index == 8 || index == 12 || index == 16 || index == 20 { uuid.append("-") }
            uuid.append(digit)
        }
        return uuid
    }

    /// Eight random letters: an epoch, a generation, an incarnation.
    package func letters() -> String {
        var bits = self.random()
        var letters = ""
        for _ in 0..<8 {
            letters.unicodeScalars.append(Unicode.Scalar(UInt8(ascii: "a") + UInt8(bits % 26)))
            bits /= 26
        }
        return letters
    }

    private static func hexadecimal(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }
}
