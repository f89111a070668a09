import FanfareCore
import FanfareLoops
import Glibc
import Synchronization

/// SplitMix64: the same numbers for the same seed.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        self.state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}

/// What happened, in order.
final class Recorder: Sendable {
    private let storage = Mutex<[Int]>([])
    var values: [Int] { self.storage.withLock { $0 } }
    func append(_ value: Int) { self.storage.withLock { $0.append(value) } }
    func clear() { self.storage.withLock { $0 = [] } }
}

struct Timeout: Error {}

/// Waits until `condition` holds, ten seconds at the most.
func eventually(on loop: EdgeLoop, _ condition: @escaping @Sendable () -> Bool) async throws {
    for _ in 0..<5000 {
        if condition() { return }
        await loop.sleep(for: .milliseconds(2))
    }
    throw Timeout()
}

/// Runs `body` on the loop and waits for its result.
func onLoop<Result: Sendable>(_ loop: EdgeLoop, _ body: @escaping @Sendable () throws -> Result) async throws -> Result
{
    try await withCheckedThrowingContinuation { continuation in
        loop.execute { continuation.resume(with: Swift.Result { try body() }) }
    }
}

/// Two connected non-blocking stream sockets.
func socketPair() -> (CInt, CInt) {
    var pair: [CInt] = [0, 0]
    let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
    precondition(socketpair(AF_UNIX, type, 0, &pair) == 0)
    return (pair[0], pair[1])
}
