internal import CEpoll
internal import FanfareFabric
internal import FanfareLoops
internal import FanfareModel
internal import Glibc

/// What waits to be taken by a connection's socket, in order: own bytes, and frames shared with other connections.
struct WriteQueue {
    private enum Chunk {
        case own(Bytes)
        case shared(SharedFrame)

        var bytes: Bytes {
            switch self {
            case .own(let bytes): bytes
            case .shared(let frame): frame.bytes
            }
        }
    }

    enum Progress: Hashable {
        /// Everything was taken.
        case drained
        /// The socket takes no more for now. `tookSome`: it did take something.
        case blocked(tookSome: Bool)
        case failed(CInt)
    }

    /// Smaller chunks are gathered before they are sent: one system call costs more than copying them.
    private static let gatherLimit = 16 << 10

    private var chunks: [Chunk] = []
    /// How many of `chunks` were sent.
    private var sentChunks = 0
    /// How many bytes of the first waiting chunk were sent.
    private var sentBytes = 0
    private(set) var byteCount = 0

    var isEmpty: Bool { self.byteCount == 0 }

    mutating func append(_ bytes: Bytes) {
        guard !bytes.isEmpty else { return }
        self.byteCount += bytes.count
        self.chunks.append(.own(bytes))
    }

    mutating func append(_ frame: SharedFrame) {
        guard !frame.bytes.isEmpty else { return }
        self.byteCount += frame.bytes.count
        self.chunks.append(.shared(frame))
    }

    /// Drops what was not begun; the rest of a frame of which the peer has a part must still be sent.
    mutating func dropUnsent() {
        guard !self.isEmpty else { return }
        guard self.sentBytes > 0 else {
            self = WriteQueue()
            return
        }
        let begun = self.chunks[self.sentChunks]
        self.chunks = [begun]
        self.sentChunks = 0
        self.byteCount = begun.bytes.count - self.sentBytes
    }

    /// Gives the socket as much as it takes.
    /// - Parameter scratch: for gathering.
    /// - Parameter sends: counts the system calls.
    mutating func flush(
        to descriptor: CInt, scratch: UnsafeMutableRawBufferPointer, sends: inout Int
    ) -> Progress {
        var tookSome = false
        while self.byteCount > 0 {
            let sent = self.sendOnce(to: descriptor, scratch: scratch)
            sends += 1
            if sent < 0 {
                let error = errno
                if error == EINTR { continue }
                return error == EAGAIN ? .blocked(tookSome: tookSome) : .failed(error)
            }
            tookSome = tookSome || sent > 0
            self.advance(by: sent)
        }
        return .drained
    }

    private func sendOnce(to descriptor: CInt, scratch: UnsafeMutableRawBufferPointer) -> Int {
        let first = self.chunks[self.sentChunks]
        let isAlone = self.sentChunks + 1 == self.chunks.count
        if isAlone || first.bytes.count - self.sentBytes >= WriteQueue.gatherLimit {
            return first.bytes.withUnsafeBytes { bytes in
                let rest = UnsafeRawBufferPointer(rebasing: bytes[self.sentBytes...])
                return Glibc.send(descriptor, rest.baseAddress, rest.count, fanfare_send_flags)
            }
        }
        var gathered = 0
        var offset = self.sentBytes
        for chunk in self.chunks[self.sentChunks...] {
            let count = chunk.bytes.withUnsafeBytes { bytes in
                let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...].prefix(scratch.count - gathered))
                UnsafeMutableRawBufferPointer(rebasing: scratch[gathered...]).copyMemory(from: rest)
                return rest.count
            }
            gathered += count
            if gathered == scratch.count { break }
            offset = 0
        }
        return Glibc.send(descriptor, scratch.baseAddress, gathered, fanfare_send_flags)
    }

    private mutating func advance(by sent: Int) {
        self.byteCount -= sent
        guard self.byteCount > 0 else {
            // Keeps a small storage: most connections write again soon; an idle one holds a few words.
            self.chunks.removeAll(keepingCapacity: self.chunks.capacity <= 4)
            self.sentChunks = 0
            self.sentBytes = 0
            return
        }
        self.sentBytes += sent
        while self.sentBytes >= self.chunks[self.sentChunks].bytes.count {
            self.sentBytes -= self.chunks[self.sentChunks].bytes.count
            // Lets go of the bytes now, of their places by the batch.
            self.chunks[self.sentChunks] = .own([])
            self.sentChunks += 1
        }
        if self.sentChunks >= 64 && self.sentChunks * 2 >= self.chunks.count {
            self.chunks.removeFirst(self.sentChunks)
            self.sentChunks = 0
        }
    }
}
