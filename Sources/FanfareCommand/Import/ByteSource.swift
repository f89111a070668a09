import FanfareModel
import Glibc

/// A file, or standard input, in chunks.
package final class ByteSource {
    /// Nil for what has no size: pipes.
    package let size: Int64?
    private let descriptor: Int32
    private var buffer = Bytes(repeating: 0, count: 256 << 10)

    /// - Parameter path: `-` is standard input.
    package init(_ path: String) throws(CommandError) {
        let descriptor = path == "-" ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw CommandError("cannot read '\(path)': \(ByteSource.reason(errno))") }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT != S_IFDIR else {
            close(descriptor)
            throw CommandError("cannot read '\(path)': it is a folder")
        }
        self.descriptor = descriptor
        self.size = status.st_mode & S_IFMT == S_IFREG ? Int64(status.st_size) : nil
    }

    deinit { close(self.descriptor) }

    /// - Returns: nil at the end.
    package func next() throws(CommandError) -> ArraySlice<UInt8>? {
        while true {
            let count = read(self.descriptor, &self.buffer, self.buffer.count)
            if count > 0 { return self.buffer[..<count] }
            if count == 0 { return nil }
            if errno != EINTR { throw CommandError("reading failed: \(ByteSource.reason(errno))") }
        }
    }

    private static func reason(_ code: Int32) -> String { String(cString: strerror(code)) }
}
