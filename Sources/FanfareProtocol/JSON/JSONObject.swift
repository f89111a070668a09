package import FanfareModel

/// A JSON object whose members stay raw until they are asked for: what is only passed on is kept byte for byte.
///
/// Absent members and `null` read as nil; a member of another type than asked for throws and names it.
package struct JSONObject: Hashable, Sendable {
    private let bytes: Bytes
    private var ranges: [String: Range<Int>] = [:]

    /// The names of the members, sorted.
    package var keys: [String] { self.ranges.keys.sorted() }

    /// - Throws: where `bytes` are not exactly one JSON object, validated to the last byte. Of repeated keys the last
    ///   one counts.
    package init(_ bytes: Bytes) throws(JSONError) {
        self.bytes = bytes
        self.ranges = try bytes.withUnsafeBufferPointer { (buffer) throws(JSONError) in
            var ranges: [String: Range<Int>] = [:]
            var scanner = JSONScanner(buffer)
            var isFirst = true
            try scanner.beginObject()
            while let key = try scanner.nextKey(isFirst: &isFirst) { ranges[key.string] = try scanner.skipValue() }
            try scanner.expectEnd()
            return ranges
        }
    }

    /// The member's bytes as they came, raw LF and CR replaced by spaces; `null` is a value here.
    package func raw(_ key: String) -> Bytes? { self.ranges[key].map { self.slice($0) } }

    package func string(_ key: String) throws(JSONError) -> String? {
        try self.scan(key) { (scanner) throws(JSONError) in try scanner.string() }
    }

    package func bool(_ key: String) throws(JSONError) -> Bool? {
        try self.scan(key) { (scanner) throws(JSONError) in try scanner.bool() }
    }

    package func integer<Integer: FixedWidthInteger>(
        _ key: String, as type: Integer.Type = Int64.self
    ) throws(JSONError) -> Integer? {
        try self.scan(key) { (scanner) throws(JSONError) in try scanner.integer(type) }
    }

    package func object(_ key: String) throws(JSONError) -> JSONObject? {
        guard let bytes = try self.value(key) else { return nil }
        guard bytes.first == UInt8(ascii: "{") else { throw JSONError(.unexpectedType(member: key), at: 0) }
        return try JSONObject(bytes)
    }

    /// The elements of an array, raw.
    package func array(_ key: String) throws(JSONError) -> [Bytes]? {
        try self.scan(key) { (scanner) throws(JSONError) in
            var elements: [Bytes] = []
            var isFirst = true
            try scanner.beginArray()
            while try scanner.nextElement(isFirst: &isFirst) { elements.append(scanner.raw(try scanner.skipValue())) }
            return elements
        }
    }

    package func strings(_ key: String) throws(JSONError) -> [String]? {
        try self.scan(key) { (scanner) throws(JSONError) in
            var elements: [String] = []
            var isFirst = true
            try scanner.beginArray()
            while try scanner.nextElement(isFirst: &isFirst) { elements.append(try scanner.string()) }
            return elements
        }
    }

    /// An object whose members are strings, for example tags.
    package func stringMap(_ key: String) throws(JSONError) -> [String: String]? {
        try self.scan(key) { (scanner) throws(JSONError) in
            var members: [String: String] = [:]
            var isFirst = true
            try scanner.beginObject()
            while let name = try scanner.nextKey(isFirst: &isFirst) { members[name.string] = try scanner.string() }
            return members
        }
    }

    /// The member's bytes, nil where they are `null`.
    private func value(_ key: String) throws(JSONError) -> Bytes? {
        guard let bytes = self.raw(key), bytes != Bytes("null".utf8) else { return nil }
        return bytes
    }

    private func slice(_ range: Range<Int>) -> Bytes {
        self.bytes.withUnsafeBufferPointer { JSONScanner.line(UnsafeBufferPointer(rebasing: $0[range])) }
    }

    private func scan<Value>(
        _ key: String, _ body: (inout JSONScanner) throws(JSONError) -> Value
    ) throws(JSONError) -> Value? {
        guard let range = self.ranges[key] else { return nil }
        do {
            return try self.bytes.withUnsafeBufferPointer { (buffer) throws(JSONError) -> Value? in
                var scanner = JSONScanner(UnsafeBufferPointer(rebasing: buffer[range]))
                return try scanner.skipNull() ? nil : try body(&scanner)
            }
        } catch {
            throw JSONError(.unexpectedType(member: key), at: range.lowerBound + error.offset)
        }
    }
}
