package import FanfareModel

/// Bytes that came from another node, or from a log, and cannot be read.
package enum EnvelopeError: Error, Sendable, Hashable {
    /// Ends within a value, or holds a value that is out of range.
    case malformed
    /// Written in a layout that only a newer version knows.
    case newerVersion(UInt64)
}

/// Writes fields as (tag, bytes): a reader skips the tags that it does not know, so that a newer node may add some.
package struct TaggedWriter {
    package private(set) var bytes: Bytes

    package init(reserving capacity: Int = 64) {
        self.bytes = []
        self.bytes.reserveCapacity(capacity)
    }

    /// Before the first field: a version, a kind.
    package mutating func header(_ value: UInt64) { Varint.append(value, to: &self.bytes) }

    package mutating func field(_ tag: UInt64, _ value: some Collection<UInt8>) {
        Varint.append(tag, to: &self.bytes)
        Varint.append(UInt64(value.count), to: &self.bytes)
        self.bytes.append(contentsOf: value)
    }

    package mutating func field(_ tag: UInt64, _ value: String) { self.field(tag, value.utf8) }

    package mutating func field(_ tag: UInt64, _ value: UInt64) {
        var number = Bytes()
        Varint.append(value, to: &number)
        self.field(tag, number)
    }

    /// Negative numbers, too.
    package mutating func field(_ tag: UInt64, signed value: Int64) { self.field(tag, UInt64(bitPattern: value)) }

    package mutating func field(_ tag: UInt64, _ value: Bool) { self.field(tag, UInt64(value ? 1 : 0)) }

    /// A field that holds fields.
    package mutating func field(_ tag: UInt64, _ build: (inout TaggedWriter) -> Void) {
        var inner = TaggedWriter()
        build(&inner)
        self.field(tag, inner.bytes)
    }
}

/// Reads what `TaggedWriter` wrote. Never reads beyond the end, whatever the bytes are.
package struct TaggedReader {
    package struct Field {
        package let tag: UInt64
        package let bytes: ArraySlice<UInt8>

        package var data: Bytes { Bytes(self.bytes) }

        /// - Throws: `.malformed` where the bytes are no UTF-8.
        package func string() throws(EnvelopeError) -> String {
            guard let text = String(validating: self.bytes, as: UTF8.self) else { throw .malformed }
            return text
        }

        package func number() throws(EnvelopeError) -> UInt64 {
            var reader = TaggedReader(self.bytes)
            let value = try reader.header()
            guard reader.isAtEnd else { throw .malformed }
            return value
        }

        package func signed() throws(EnvelopeError) -> Int64 { Int64(bitPattern: try self.number()) }
        package func bool() throws(EnvelopeError) -> Bool { try self.number() != 0 }
        package var fields: TaggedReader { TaggedReader(self.bytes) }
    }

    private let bytes: ArraySlice<UInt8>
    private var position: Int

    package init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        self.position = bytes.startIndex
    }

    package init(_ bytes: Bytes) { self.init(bytes[...]) }

    package var isAtEnd: Bool { self.position == self.bytes.endIndex }

    /// The next bare number.
    package mutating func header() throws(EnvelopeError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while self.position < self.bytes.endIndex {
            let byte = self.bytes[self.position]
            self.position += 1
            guard shift < 63 || byte <= 1 else { throw .malformed }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        throw .malformed
    }

    /// The next field; nil at the end.
    package mutating func next() throws(EnvelopeError) -> Field? {
        guard !self.isAtEnd else { return nil }
        let tag = try self.header()
        let count = try self.header()
        guard count <= UInt64(self.bytes.endIndex - self.position) else { throw .malformed }
        let start = self.position
        self.position += Int(count)
        return Field(tag: tag, bytes: self.bytes[start..<self.position])
    }
}
