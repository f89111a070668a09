package import FanfareModel

/// Reads `streamer,follower` lines from chunks of bytes, as they come.
///
/// A first line `streamer,follower` is a header. Empty lines, a byte order mark, CRLF, spaces around and double quotes are
/// taken as spreadsheets write them.
package struct FollowLines: Sendable {
    package struct BadLine: Error, Hashable, Sendable, CustomStringConvertible {
        /// From 1.
        package let line: Int
        package let reason: String
        package var description: String { "line \(self.line): \(self.reason)" }
    }

    /// Two ids of 64 characters, quotes and spaces; a longer line is a bad one.
    package static let maximumLength = 512

    /// Lines read so far.
    package private(set) var lines = 0
    private var partial: Bytes = []
    private var isTooLong = false

    package init() {}

    /// - Returns: one result per line that says something.
    package mutating func feed(_ chunk: some Collection<UInt8>) -> [Result<Follow, BadLine>] {
        var results: [Result<Follow, BadLine>] = []
        var rest = chunk[...]
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            self.gather(rest[..<end])
            self.endLine(into: &results)
            rest = rest[rest.index(after: end)...]
        }
        self.gather(rest)
        return results
    }

    /// The bytes are at their end: the last line may lack its line feed.
    package mutating func finish() -> [Result<Follow, BadLine>] {
        var results: [Result<Follow, BadLine>] = []
        if !self.partial.isEmpty || self.isTooLong { self.endLine(into: &results) }
        return results
    }

    private mutating func gather(_ part: some Collection<UInt8>) {
        if self.isTooLong || self.partial.count + part.count > FollowLines.maximumLength {
            self.isTooLong = true
            self.partial = []
        } else {
            self.partial += part
        }
    }

    private mutating func endLine(into results: inout [Result<Follow, BadLine>]) {
        self.lines += 1
        defer {
            self.partial.removeAll(keepingCapacity: true)
            self.isTooLong = false
        }
        guard !self.isTooLong else {
            results.append(.failure(self.bad("longer than \(FollowLines.maximumLength) bytes")))
            return
        }
        var line = self.partial[...]
        if self.lines == 1, line.starts(with: [0xef, 0xbb, 0xbf]) { line = line.dropFirst(3) }
        line = FollowLines.trimmed(line)
        guard !line.isEmpty else { return }
        let fields = line.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
            .map { FollowLines.unquoted(FollowLines.trimmed($0)) }
        guard fields.count == 2 else {
            results.append(.failure(self.bad("not two fields, streamer,follower, but \(fields.count)")))
            return
        }
        let streamerText = String(decoding: fields[0], as: UTF8.self)
        let followerText = String(decoding: fields[1], as: UTF8.self)
        if self.lines == 1, streamerText.lowercased() == "streamer", followerText.lowercased() == "follower" { return }
        guard let streamer = UserID(streamerText) else {
            results.append(.failure(self.bad("the streamer is no user id")))
            return
        }
        guard let follower = UserID(followerText) else {
            results.append(.failure(self.bad("the follower is no user id")))
            return
        }
        results.append(.success(Follow(line: self.lines, streamer: streamer, follower: follower)))
    }

    private func bad(_ reason: String) -> BadLine { BadLine(line: self.lines, reason: reason) }

    private static func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let isSpace: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }
        var bytes = bytes.drop(while: isSpace)
        while let last = bytes.last, isSpace(last) { bytes.removeLast() }
        return bytes
    }

    private static func unquoted(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let quote = UInt8(ascii: "\"")
        guard bytes.count >= 2, bytes.first == quote, bytes.last == quote else { return bytes }
        return bytes.dropFirst().dropLast()
    }

    package struct Follow: Hashable, Sendable {
        /// From 1.
        package var line: Int
        package var streamer: UserID
        package var follower: UserID
    }
}
