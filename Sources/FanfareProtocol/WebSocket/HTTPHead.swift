package import FanfareModel

/// The header fields of an HTTP/1.1 message, in order. Names are in lower case.
package struct HTTPFields: Hashable, Sendable {
    package private(set) var fields: [Field] = []

    package struct Field: Hashable, Sendable {
        package var name: String
        package var value: String
    }

    package init() {}

    /// The first value of that name.
    /// - Parameter name: In lower case.
    package subscript(_ name: String) -> String? { self.fields.first { $0.name == name }?.value }

    package func values(_ name: String) -> [String] { self.fields.filter { $0.name == name }.map(\.value) }

    /// The elements of a field that is a comma-separated list, over all its lines.
    package func list(_ name: String) -> [String] {
        self.values(name).flatMap { value in
            value.split(separator: ",").map { $0.trimmingBlanks() }.filter { !$0.isEmpty }
        }
    }

    package mutating func append(_ name: String, _ value: String) {
        self.fields.append(Field(name: name.lowercased(), value: value))
    }
}

/// The head of an HTTP/1.1 request: as much HTTP as a WebSocket handshake needs.
package struct HTTPRequestHead: Hashable, Sendable {
    package var method: String
    /// As it came, for example `/rooms/a%20b?format=protobuf`.
    package var target: String
    /// Percent-decoded.
    package var path: String
    /// Names and values in order, percent-decoded, `+` read as a space.
    package var queryItems: [(name: String, value: String)] { QueryString.parse(self.rawQuery) }
    package var rawQuery: String
    package var headers: HTTPFields

    /// The first value of a query parameter.
    package func query(_ name: String) -> String? { self.queryItems.first { $0.name == name }?.value }
}

/// Reads a message's head from bytes that arrive in pieces, within a limit.
package struct HTTPHeadParser: Sendable {
    package static let defaultMaximumLength = 16 * 1024
    private static let maximumFields = 100

    package enum Progress: Sendable {
        case needsMore
        /// The head, and the bytes that came behind it.
        case complete(HTTPRequestHead, rest: Bytes)
        /// Answer with this status and close.
        case failure(HTTPStatus)
    }

    private let maximumLength: Int
    private var buffer: Bytes = []
    /// No end of head begins before it.
    private var searched = 0

    package init(maximumLength: Int = HTTPHeadParser.defaultMaximumLength) { self.maximumLength = maximumLength }

    package mutating func feed(_ chunk: UnsafeBufferPointer<UInt8>) -> Progress {
        // Everything behind the head may be a frame already: kept as far as a chunk reaches.
        self.buffer.append(contentsOf: chunk)
        guard let end = self.findEnd() else {
            guard self.buffer.count <= self.maximumLength else {
                self.buffer = []
                return .failure(.headersTooLarge)
            }
            return .needsMore
        }
        guard end <= self.maximumLength else {
            self.buffer = []
            return .failure(.headersTooLarge)
        }
        let head = self.buffer[..<end]
        let rest = Bytes(self.buffer[end...])
        defer { self.buffer = [] }
        do {
            return .complete(try HTTPHeadParser.request(Bytes(head)), rest: rest)
        } catch {
            return .failure(error)
        }
    }

    package mutating func feed(_ chunk: Bytes) -> Progress { chunk.withUnsafeBufferPointer { self.feed($0) } }

    /// For a client: the status line and the fields of a response, and the bytes behind them; nil where more is needed.
    mutating func feedResponse(
        _ chunk: Bytes
    ) throws(HTTPStatus) -> (status: Int, headers: HTTPFields, rest: Bytes)? {
        self.buffer.append(contentsOf: chunk)
        guard let end = self.findEnd() else {
            guard self.buffer.count <= self.maximumLength else { throw .headersTooLarge }
            return nil
        }
        let lines = try HTTPHeadParser.lines(Bytes(self.buffer[..<end]))
        let rest = Bytes(self.buffer[end...])
        let parts = String(decoding: lines[0], as: UTF8.self).split(separator: " ", maxSplits: 2)
        guard parts.count >= 2, parts[0].hasPrefix("HTTP/1."), let status = Int(parts[1]) else { throw .badRequest }
        return (status, try HTTPHeadParser.fields(lines.dropFirst()), rest)
    }

    /// The index behind the empty line.
    private mutating func findEnd() -> Int? {
        var index = self.searched
        while index + 4 <= self.buffer.count {
            if self.buffer[index] == 0x0d, self.buffer[index + 1] == 0x0a, self.buffer[index + 2] == 0x0d,
                self.buffer[index + 3] == 0x0a
            {
                return index + 4
            }
            index += 1
        }
        self.searched = index
        return nil
    }

    private static func request(_ head: Bytes) throws(HTTPStatus) -> HTTPRequestHead {
        let lines = try self.lines(head)
        let parts = lines[0].split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
        guard parts.count == 3, !parts[0].isEmpty, parts[0].allSatisfy(self.isTokenCharacter),
            !parts[1].isEmpty, parts[1].allSatisfy({ (0x21...0x7e).contains($0) })
        else { throw .badRequest }
        let version = String(decoding: parts[2], as: UTF8.self)
        guard version == "HTTP/1.1" else { throw version.hasPrefix("HTTP/") ? .versionNotSupported : .badRequest }
        let target = String(decoding: parts[1], as: UTF8.self)
        let origin = try self.originForm(target)
        let pieces = origin.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        guard let path = PercentEncoding.decode(pieces[0]) else { throw .badRequest }
        return HTTPRequestHead(
            method: String(decoding: parts[0], as: UTF8.self), target: target, path: path,
            rawQuery: pieces.count > 1 ? String(pieces[1]) : "", headers: try self.fields(lines.dropFirst()))
    }

    /// A target in absolute form is cut to its path.
    private static func originForm(_ target: String) throws(HTTPStatus) -> Substring {
        if target.hasPrefix("/") { return target[...] }
        for scheme in ["http://", "https://"] where target.lowercased().hasPrefix(scheme) {
            let rest = target.dropFirst(scheme.count)
            guard let slash = rest.firstIndex(where: { $0 == "/" || $0 == "?" }) else { return "/" }
            return rest[slash] == "/" ? rest[slash...] : "/" + rest[slash...]
        }
        throw .badRequest
    }

    /// The lines without their ends; at least one. A bare LF is no end of line.
    private static func lines(_ head: Bytes) throws(HTTPStatus) -> [Bytes] {
        var lines: [Bytes] = []
        var start = 0
        for index in head.indices where head[index] == 0x0a {
            guard index > start, head[index - 1] == 0x0d else { throw .badRequest }
            let line = head[start..<index - 1]
            guard !line.contains(0x0d), !line.contains(0) else { throw .badRequest }
            if !line.isEmpty { lines.append(Bytes(line)) }
            start = index + 1
        }
        guard !lines.isEmpty else { throw .badRequest }
        guard lines.count <= self.maximumFields + 1 else { throw .headersTooLarge }
        return lines
    }

    private static func fields(_ lines: ArraySlice<Bytes>) throws(HTTPStatus) -> HTTPFields {
        var headers = HTTPFields()
        for line in lines {
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > 0,
                line[..<colon].allSatisfy(self.isTokenCharacter),
                line[colon...].allSatisfy({ $0 == 0x09 || ($0 >= 0x20 && $0 != 0x7f) })
            else { throw .badRequest }
            let value = String(decoding: line[(colon + 1)...], as: UTF8.self)
            headers.append(String(decoding: line[..<colon], as: UTF8.self), value.trimmingBlanks())
        }
        return headers
    }

    private static func isTokenCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}

/// The parameters behind a target's `?`.
package enum QueryString {
    /// Parameters whose escapes are malformed are left out.
    package static func parse(_ text: String) -> [(name: String, value: String)] {
        text.split(separator: "&").compactMap { parameter in
            let parts = parameter.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = PercentEncoding.decode(parts[0], plusIsSpace: true),
                let value = PercentEncoding.decode(parts.count > 1 ? parts[1] : "", plusIsSpace: true)
            else { return nil }
            return (name, value)
        }
    }
}

package enum PercentEncoding {
    /// - Returns: Nil for a malformed escape or what is no UTF-8 when decoded.
    package static func decode(_ text: some StringProtocol, plusIsSpace: Bool = false) -> String? {
        var bytes = Bytes()
        var rest = text.utf8.makeIterator()
        while let byte = rest.next() {
            switch byte {
            case UInt8(ascii: "%"):
                guard let first = rest.next().flatMap(Hexadecimal.value(of:)),
                    let second = rest.next().flatMap(Hexadecimal.value(of:))
                else { return nil }
                bytes.append(first << 4 | second)
            case UInt8(ascii: "+") where plusIsSpace: bytes.append(0x20)
            default: bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }
}

extension StringProtocol {
    /// Without the spaces and tabs around it.
    func trimmingBlanks() -> String {
        func isBlank(_ character: Character) -> Bool { character == " " || character == "\t" }
        var text = Substring(self)
        while let last = text.last, isBlank(last) { text.removeLast() }
        return String(text.drop(while: isBlank))
    }
}
