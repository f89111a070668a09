package import FanfareModel

/// Pulls values out of JSON text (RFC 8259) without building a tree: what is passed over is validated nevertheless.
///
/// Points into the caller's bytes: use it only inside the `withUnsafeBufferPointer` that lent them.
package struct JSONScanner {
    /// How deep a payload may nest: scalars have depth 0, `[]` has 1. Deeper ones would break readers that recurse, among
    /// them the SDKs of other subscribers.
    package static let maximumDepth = 512

    let bytes: UnsafeBufferPointer<UInt8>
    var position = 0
    let maximumDepth: Int
    /// How deep the value nested that `skipValue` passed over last.
    package private(set) var lastDepth = 0

    /// - Parameter maximumDepth: What nests deeper is refused as `.tooDeep`. Skipping a value takes no stack, however deep
    ///   it is, so that any limit is safe.
    package init(_ bytes: UnsafeBufferPointer<UInt8>, maximumDepth: Int = .max) {
        self.bytes = bytes
        self.maximumDepth = maximumDepth
    }

    /// Whether `bytes` are exactly one JSON value, with nothing but whitespace around it.
    package static func isValid(_ bytes: Bytes, maximumDepth: Int = JSONScanner.maximumDepth) -> Bool {
        do throws(JSONError) {
            try self.validate(bytes, maximumDepth: maximumDepth)
            return true
        } catch {
            return false
        }
    }

    /// - Throws: where `bytes` are not exactly one JSON value, or nest too deep.
    package static func validate(
        _ bytes: Bytes, maximumDepth: Int = JSONScanner.maximumDepth
    ) throws(JSONError) {
        try bytes.withUnsafeBufferPointer { (buffer) throws(JSONError) in
            var scanner = JSONScanner(buffer, maximumDepth: maximumDepth)
            try scanner.skipValue()
            try scanner.expectEnd()
        }
    }

    /// A validated value as it may stand in a line; see `raw`.
    package static func line(_ value: Bytes) -> Bytes { value.withUnsafeBufferPointer { self.line($0) } }

    /// The bytes of a validated value as they may stand in a line: raw LF and CR, which can only be whitespace there,
    /// become spaces; all else is kept byte for byte.
    package func raw(_ range: Range<Int>) -> Bytes {
        JSONScanner.line(UnsafeBufferPointer(rebasing: self.bytes[range]))
    }

    static func line(_ value: UnsafeBufferPointer<UInt8>) -> Bytes {
        var line = Bytes(value)
        for index in line.indices where line[index] == 0x0a || line[index] == 0x0d { line[index] = 0x20 }
        return line
    }

    // MARK: Structure

    @inline(__always)
    mutating func skipWhitespace() {
        while self.position < self.bytes.count {
            switch self.bytes[self.position] {
            case 0x20, 0x09, 0x0a, 0x0d: self.position += 1
            default: return
            }
        }
    }

    /// The first byte of the next value; the position stands on it.
    @inline(__always)
    mutating func peek() throws(JSONError) -> UInt8 {
        self.skipWhitespace()
        guard self.position < self.bytes.count else { throw self.malformed }
        return self.bytes[self.position]
    }

    mutating func expect(_ byte: UInt8) throws(JSONError) {
        guard try self.peek() == byte else { throw self.malformed }
        self.position += 1
    }

    /// Only whitespace is left.
    mutating func expectEnd() throws(JSONError) {
        self.skipWhitespace()
        guard self.position == self.bytes.count else { throw self.malformed }
    }

    /// Steps over `null`, if that is the next value.
    mutating func skipNull() throws(JSONError) -> Bool {
        guard try self.peek() == UInt8(ascii: "n") else { return false }
        try self.literal("null")
        return true
    }

    mutating func beginObject() throws(JSONError) {
        guard try self.peek() == UInt8(ascii: "{") else {
            throw JSONError(.unexpectedType(member: ""), at: self.position)
        }
        self.position += 1
    }

    /// The key of the next member, the position before its value; nil at the object's end.
    mutating func nextKey(isFirst: inout Bool) throws(JSONError) -> JSONKey? {
        guard try self.advance(past: UInt8(ascii: "}"), isFirst: &isFirst) else { return nil }
        guard try self.peek() == UInt8(ascii: "\"") else { throw self.malformed }
        let (content, hasEscapes) = try self.skipString()
        try self.expect(UInt8(ascii: ":"))
        let text = UnsafeBufferPointer(rebasing: self.bytes[content])
        return JSONKey(text: text, decoded: hasEscapes ? self.unescape(content) : nil)
    }

    mutating func beginArray() throws(JSONError) {
        guard try self.peek() == UInt8(ascii: "[") else {
            throw JSONError(.unexpectedType(member: ""), at: self.position)
        }
        self.position += 1
    }

    /// Whether another element follows, the position before it.
    mutating func nextElement(isFirst: inout Bool) throws(JSONError) -> Bool {
        try self.advance(past: UInt8(ascii: "]"), isFirst: &isFirst)
    }

    private mutating func advance(past end: UInt8, isFirst: inout Bool) throws(JSONError) -> Bool {
        let byte = try self.peek()
        if byte == end {
            self.position += 1
            return false
        }
        if isFirst {
            isFirst = false
        } else {
            guard byte == UInt8(ascii: ",") else { throw self.malformed }
            self.position += 1
        }
        return true
    }

    // MARK: Values

    /// Validates the next value, whatever it is.
    /// - Returns: Where it stands, without the whitespace around it.
    @discardableResult
    package mutating func skipValue() throws(JSONError) -> Range<Int> {
        var open = OpenContainers()
        self.lastDepth = 0
        _ = try self.peek()
        let start = self.position
        repeat {
            guard let isObject = try self.skipScalarOrOpen() else { continue }
            guard open.count < self.maximumDepth else { throw JSONError(.tooDeep, at: self.position - 1) }
            open.push(isObject: isObject)
            self.lastDepth = max(self.lastDepth, open.count)
            // An empty container ends at once: it has no first element to go on with.
            guard try self.peek() != (isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) else { continue }
            if isObject { try self.skipKey() }
            open.isAtValue = true
        } while try self.isBeforeValue(&open)
        return start..<self.position
    }

    /// Steps over a value that holds no others, or into one that does.
    /// - Returns: nil for a scalar, else whether the container is an object.
    private mutating func skipScalarOrOpen() throws(JSONError) -> Bool? {
        switch try self.peek() {
        case UInt8(ascii: "\""): _ = try self.skipString()
        case UInt8(ascii: "t"): try self.literal("true")
        case UInt8(ascii: "f"): try self.literal("false")
        case UInt8(ascii: "n"): try self.literal("null")
        case UInt8(ascii: "{"):
            self.position += 1
            return true
        case UInt8(ascii: "["):
            self.position += 1
            return false
        default: try self.skipNumber()
        }
        return nil
    }

    private mutating func skipKey() throws(JSONError) {
        guard try self.peek() == UInt8(ascii: "\"") else { throw self.malformed }
        _ = try self.skipString()
        try self.expect(UInt8(ascii: ":"))
    }

    /// Closes what ends here.
    /// - Returns: whether another value follows in a container that is open; false where all are closed.
    private mutating func isBeforeValue(_ open: inout OpenContainers) throws(JSONError) -> Bool {
        if open.isAtValue {
            open.isAtValue = false
            return true
        }
        while let isObject = open.innermostIsObject {
            let byte = try self.peek()
            if byte == UInt8(ascii: ",") {
                self.position += 1
                if isObject { try self.skipKey() }
                return true
            }
            guard byte == (isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) else { throw self.malformed }
            self.position += 1
            open.pop()
        }
        return false
    }

    /// The next value, which is a string.
    package mutating func string() throws(JSONError) -> String {
        guard try self.peek() == UInt8(ascii: "\"") else {
            throw JSONError(.unexpectedType(member: ""), at: self.position)
        }
        let (content, hasEscapes) = try self.skipString()
        if hasEscapes { return String(decoding: self.unescape(content), as: UTF8.self) }
        return String(decoding: UnsafeBufferPointer(rebasing: self.bytes[content]), as: UTF8.self)
    }

    package mutating func bool() throws(JSONError) -> Bool {
        switch try self.peek() {
        case UInt8(ascii: "t"):
            try self.literal("true")
            return true
        case UInt8(ascii: "f"):
            try self.literal("false")
            return false
        default: throw JSONError(.unexpectedType(member: ""), at: self.position)
        }
    }

    /// The next value, which is a whole number that fits, written without fraction and exponent.
    package mutating func integer<Integer: FixedWidthInteger>(_: Integer.Type = Integer.self) throws(JSONError)
        -> Integer
    {
        let first = try self.peek()
        let start = self.position
        guard first == UInt8(ascii: "-") || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
            throw JSONError(.unexpectedType(member: ""), at: start)
        }
        try self.skipNumber()
        let isNegative = first == UInt8(ascii: "-")
        var value: Integer = 0
        for index in (isNegative ? start + 1 : start)..<self.position {
            let digit = self.bytes[index] &- UInt8(ascii: "0")
            guard digit <= 9 else { throw JSONError(.unexpectedType(member: ""), at: start) }
            let (product, overflowed) = value.multipliedReportingOverflow(by: 10)
            let (sum, spilled) =
                isNegative
                ? product.subtractingReportingOverflow(Integer(digit))
                : product.addingReportingOverflow(Integer(digit))
            guard !overflowed, !spilled else { throw JSONError(.unexpectedType(member: ""), at: start) }
            value = sum
        }
        return value
    }

    /// The text of the next value, which is a number of any size.
    mutating func numberText() throws(JSONError) -> String {
        _ = try self.peek()
        let start = self.position
        try self.skipNumber()
        return String(decoding: UnsafeBufferPointer(rebasing: self.bytes[start..<self.position]), as: UTF8.self)
    }

    // MARK: Tokens

    var malformed: JSONError { JSONError(.malformed, at: self.position) }

    mutating func literal(_ text: StaticString) throws(JSONError) {
        let count = text.utf8CodeUnitCount
        guard self.position + count <= self.bytes.count else { throw self.malformed }
        for index in 0..<count where self.bytes[self.position + index] != text.utf8Start[index] { throw self.malformed }
        self.position += count
    }

    private mutating func skipNumber() throws(JSONError) {
        if self.byte == UInt8(ascii: "-") { self.position += 1 }
        if self.byte == UInt8(ascii: "0") {
            self.position += 1
        } else {
            try self.skipDigits()
        }
        if self.byte == UInt8(ascii: ".") {
            self.position += 1
            try self.skipDigits()
        }
        if self.byte == UInt8(ascii: "e") || self.byte == UInt8(ascii: "E") {
            self.position += 1
            if self.byte == UInt8(ascii: "+") || self.byte == UInt8(ascii: "-") { self.position += 1 }
            try self.skipDigits()
        }
    }

    /// The byte at the position; 0, which no token holds, at the end.
    @inline(__always)
    private var byte: UInt8 { self.position < self.bytes.count ? self.bytes[self.position] : 0 }

    private mutating func skipDigits() throws(JSONError) {
        let start = self.position
        while (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self.byte) { self.position += 1 }
        guard self.position > start else { throw self.malformed }
    }

    /// Steps over the string at the position, which stands on its opening quote.
    mutating func skipString() throws(JSONError) -> (content: Range<Int>, hasEscapes: Bool) {
        let start = self.position + 1
        var index = start
        var hasEscapes = false
        let count = self.bytes.count
        while true {
            if let base = self.bytes.baseAddress {
                while index + 8 <= count,
                    JSONScanner.isPlain(UnsafeRawPointer(base + index).loadUnaligned(as: UInt64.self))
                {
                    index += 8
                }
            }
            guard index < count else { throw JSONError(.malformed, at: index) }
            switch self.bytes[index] {
            case UInt8(ascii: "\""):
                self.position = index + 1
                return (start..<index, hasEscapes)
            case UInt8(ascii: "\\"):
                hasEscapes = true
                guard index + 1 < count else { throw JSONError(.malformed, at: index) }
                switch self.bytes[index + 1] {
                case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
                    UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
                    index += 2
                case UInt8(ascii: "u"):
                    guard self.hexadecimal(at: index + 2) != nil else { throw JSONError(.malformed, at: index) }
                    index += 6
                default: throw JSONError(.malformed, at: index)
                }
            case 0x00..<0x20: throw JSONError(.malformed, at: index)
            case 0x20..<0x80: index += 1
            default:
                guard let length = UTF8Sequence.length(in: self.bytes, at: index) else {
                    throw JSONError(.invalidUTF8, at: index)
                }
                index += length
            }
        }
    }

    /// Whether eight bytes are ASCII without controls, quotes and backslashes.
    @inline(__always)
    private static func isPlain(_ word: UInt64) -> Bool {
        let quotes = word ^ 0x2222_2222_2222_2222
        let backslashes = word ^ 0x5c5c_5c5c_5c5c_5c5c
        let ones = 0x0101_0101_0101_0101 as UInt64
        let found =
            word | ((word &- 0x2020_2020_2020_2020) & ~word) | ((quotes &- ones) & ~quotes)
            | ((backslashes &- ones) & ~backslashes)
        return found & 0x8080_8080_8080_8080 == 0
    }

    private func hexadecimal(at index: Int) -> UInt32? {
        guard index + 4 <= self.bytes.count else { return nil }
        var value: UInt32 = 0
        for offset in 0..<4 {
            guard let digit = Hexadecimal.value(of: self.bytes[index + offset]) else { return nil }
            value = value << 4 | UInt32(digit)
        }
        return value
    }

    /// The text of a validated string's content. A surrogate without its partner becomes U+FFFD.
    private func unescape(_ content: Range<Int>) -> Bytes {
        var text = Bytes()
        text.reserveCapacity(content.count)
        var index = content.lowerBound
        while index < content.upperBound {
            let byte = self.bytes[index]
            guard byte == UInt8(ascii: "\\") else {
                text.append(byte)
                index += 1
                continue
            }
            let escape = self.bytes[index + 1]
            index += 2
            switch escape {
            case UInt8(ascii: "b"): text.append(0x08)
            case UInt8(ascii: "f"): text.append(0x0c)
            case UInt8(ascii: "n"): text.append(0x0a)
            case UInt8(ascii: "r"): text.append(0x0d)
            case UInt8(ascii: "t"): text.append(0x09)
            case UInt8(ascii: "u"):
                var code = self.hexadecimal(at: index) ?? 0xfffd
                index += 4
                if (0xd800..<0xdc00).contains(code), index + 6 <= content.upperBound,
                    self.bytes[index] == UInt8(ascii: "\\"), self.bytes[index + 1] == UInt8(ascii: "u"),
                    let low = self.hexadecimal(at: index + 2), (0xdc00..<0xe000).contains(low)
                {
                    code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
                    index += 6
                }
                let scalar = Unicode.Scalar(code) ?? "\u{fffd}"
                text.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
            default: text.append(escape)
            }
        }
        return text
    }
}

/// A member's name, compared without being copied out.
struct JSONKey {
    fileprivate let text: UnsafeBufferPointer<UInt8>
    fileprivate let decoded: Bytes?

    var string: String {
        if let decoded { return String(decoding: decoded, as: UTF8.self) }
        return String(decoding: self.text, as: UTF8.self)
    }

    static func ~= (name: StaticString, key: JSONKey) -> Bool {
        if let decoded = key.decoded { return decoded.withUnsafeBufferPointer { self.equals(name, $0) } }
        return self.equals(name, key.text)
    }

    private static func equals(_ name: StaticString, _ text: UnsafeBufferPointer<UInt8>) -> Bool {
        guard name.utf8CodeUnitCount == text.count else { return false }
        for index in 0..<text.count where name.utf8Start[index] != text[index] { return false }
        return true
    }
}

enum Hexadecimal {
    static func value(of digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    static func digit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
    }
}
