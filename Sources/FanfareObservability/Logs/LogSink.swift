import Glibc
import Synchronization

/// Takes whole lines.
package protocol LogSink: Sendable {
    /// - Parameters:
    ///   - line: ends with a line feed.
    ///   - isUrgent: worth a short wait where the reader is slow.
    func write(_ line: [UInt8], isUrgent: Bool)
}

/// Writes to a descriptor, each line by one system call and under a lock: lines of several threads never mix.
///
/// Logging must not stop a node: a line that its reader (a pipe, a terminal) has no room for is dropped and counted;
/// urgent ones wait up to 50 ms for room.
package final class DescriptorSink: LogSink {
    private let descriptor: Int32
    private let lock = Mutex(())
    private let drops = Atomic<Int64>(0)

    /// - Parameter descriptor: stays open as long as this sink is used; not closed by it.
    package init(descriptor: Int32) { self.descriptor = descriptor }

    /// Lines that were dropped: `fanfare_log_dropped_total`.
    package var dropped: Int64 { self.drops.load(ordering: .relaxed) }

    package func write(_ line: [UInt8], isUrgent: Bool) {
        self.lock.withLock { _ in
            var offset = 0
            while offset < line.count {
                var room = pollfd(fd: self.descriptor, events: Int16(POLLOUT), revents: 0)
                // Once a line is begun it is finished, or the next one would be glued to its half.
                guard poll(&room, 1, offset > 0 ? 1000 : isUrgent ? 50 : 0) > 0 else { break }
                let written = line.withUnsafeBytes { bytes in
                    Glibc.write(self.descriptor, bytes.baseAddress?.advanced(by: offset), bytes.count - offset)
                }
                if written > 0 {
                    offset += written
                } else if written < 0, errno != EINTR, errno != EAGAIN {
                    break
                }
            }
            if offset < line.count { self.drops.add(1, ordering: .relaxed) }
        }
    }
}

package enum StandardErrorSink {
    package static let shared = DescriptorSink(descriptor: STDERR_FILENO)
    package static var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }
}
