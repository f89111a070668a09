package import FanfareModel

/// Appends JSON to bytes, without whitespace. Puts the commas; that brackets match is the caller's duty.
package struct JSONWriter {
    package private(set) var bytes: Bytes
    private var needsComma = false

    package init(reserving capacity: Int = 0) {
        self.bytes = []
        self.bytes.reserveCapacity(capacity)
    }

    /// Appends to `bytes` in place.
    package static func append(to bytes: inout Bytes, _ body: (inout JSONWriter) -> Void) {
        var writer = JSONWriter()
        swap(&writer.bytes, &bytes)
        body(&writer)
        swap(&writer.bytes, &bytes)
    }

    package mutating func beginObject() { self.begin(UInt8(ascii: "{")) }
    package mutating func endObject() { self.end(UInt8(ascii: "}")) }
    package mutating func beginArray() { self.begin(UInt8(ascii: "[")) }
    package mutating func endArray() { self.end(UInt8(ascii: "]")) }

    /// - Parameter name: Printable ASCII without quotes and backslashes.
    package mutating func key(_ name: StaticString) {
        self.comma()
        self.bytes.append(UInt8(ascii: "\""))
        self.bytes.append(contentsOf: UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
        self.bytes.append(UInt8(ascii: "\""))
        self.bytes.append(UInt8(ascii: ":"))
        self.needsComma = false
    }

    /// A key that is not known beforehand.
    package mutating func key(escaping name: String) {
        self.string(name)
        self.bytes.append(UInt8(ascii: ":"))
        self.needsComma = false
    }

    package mutating func string(_ text: String) {
        self.comma()
        self.bytes.append(UInt8(ascii: "\""))
        var text = text
        text.withUTF8 { self.escape($0) }
        self.bytes.append(UInt8(ascii: "\""))
        self.needsComma = true
    }

    package mutating func integer(_ value: some FixedWidthInteger) {
        self.comma()
        if value < 0 { self.bytes.append(UInt8(ascii: "-")) }
        var rest = UInt64(value.magnitude)
        let start = self.bytes.count
        repeat {
            self.bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10))
            rest /= 10
        } while rest > 0
        self.bytes[start...].reverse()
        self.needsComma = true
    }

    package mutating func bool(_ value: Bool) { self.literal(value ? "true" : "false") }
    package mutating func null() { self.literal("null") }

    /// Embeds JSON as it is. It must be valid and, for a line, free of raw LF and CR; empty bytes write `null`.
    package mutating func raw(_ json: Bytes) {
        guard !json.isEmpty else {
            self.null()
            return
        }
        self.comma()
        self.bytes.append(contentsOf: json)
        self.needsComma = true
    }

    private mutating func literal(_ text: StaticString) {
        self.comma()
        self.bytes.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
        self.needsComma = true
    }

    @inline(__always)
    private mutating func comma() {
        if self.needsComma { self.bytes.append(UInt8(ascii: ",")) }
    }

    private mutating func begin(_ bracket: UInt8) {
        self.comma()
        self.bytes.append(bracket)
        self.needsComma = false
    }

    private mutating func end(_ bracket: UInt8) {
        self.bytes.append(bracket)
        self.needsComma = true
    }

    private mutating func escape(_ text: UnsafeBufferPointer<UInt8>) {
        var plainStart = 0
        for index in 0..<text.count {
            let byte = text[index]
            guard byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") else { continue }
            self.bytes.append(contentsOf: text[plainStart..<index])
            plainStart = index + 1
            self.bytes.append(UInt8(ascii: "\\"))
            switch byte {
            case 0x08: self.bytes.append(UInt8(ascii: "b"))
            case 0x09: self.bytes.append(UInt8(ascii: "t"))
            case 0x0a: self.bytes.append(UInt8(ascii: "n"))
            case 0x0c: self.bytes.append(UInt8(ascii: "f"))
            case 0x0d: self.bytes.append(UInt8(ascii: "r"))
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): self.bytes.append(byte)
            default:
                self.bytes.append(contentsOf: [UInt8(ascii: "u"), UInt8(ascii: "0"), UInt8(ascii: "0")])
                self.bytes.append(Hexadecimal.digit(byte >> 4))
                self.bytes.append(Hexadecimal.digit(byte & 0x0f))
            }
        }
        self.bytes.append(contentsOf: text[plainStart...])
    }
}
