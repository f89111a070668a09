package import FanfareModel

/// A JSON value as a tree. Members keep their order, numbers their text.
package enum JSON: Hashable, Sendable {
    package struct Member: Hashable, Sendable {
        package var key: String
        package var value: JSON

        package init(_ key: String, _ value: JSON) {
            self.key = key
            self.value = value
        }
    }

    case null
    case bool(Bool)
    /// The number as it was written, of any size and precision.
    case number(String)
    case string(String)
    case array([JSON])
    case object([Member])
    /// JSON text to be embedded as it is; `parse` never makes one.
    case raw(Bytes)

    package static func integer(_ value: some BinaryInteger) -> JSON { .number(String(value)) }

    /// How deep a tree may nest where nothing else is asked for.
    package static let maximumDepth = 64

    /// - Parameter maximumDepth: How deep containers may nest; at most 512, for the stack's sake.
    /// - Throws: where `bytes` are not exactly one JSON value. Of repeated keys the last one counts.
    package static func parse(
        _ bytes: Bytes, maximumDepth: Int = JSON.maximumDepth
    ) throws(JSONError) -> JSON {
        try bytes.withUnsafeBufferPointer { (buffer) throws(JSONError) in
            var scanner = JSONScanner(buffer, maximumDepth: min(maximumDepth, 512))
            let value = try JSON(&scanner, depth: 0)
            try scanner.expectEnd()
            return value
        }
    }

    package func serialize() -> Bytes {
        var writer = JSONWriter()
        writer.value(self)
        return writer.bytes
    }

    /// The member of that name; nil where this is no object or has none.
    package subscript(_ key: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.last { $0.key == key }?.value
    }

    package var stringValue: String? { if case .string(let text) = self { text } else { nil } }
    package var boolValue: Bool? { if case .bool(let value) = self { value } else { nil } }
    package var arrayValue: [JSON]? { if case .array(let elements) = self { elements } else { nil } }
    package var objectValue: [Member]? { if case .object(let members) = self { members } else { nil } }
    package var isNull: Bool { self == .null }
    /// The number where it is whole, fits, and is written without fraction and exponent.
    package var integerValue: Int64? { if case .number(let text) = self { Int64(text) } else { nil } }
    package var doubleValue: Double? { if case .number(let text) = self { Double(text) } else { nil } }

    private init(_ scanner: inout JSONScanner, depth: Int) throws(JSONError) {
        switch try scanner.peek() {
        case UInt8(ascii: "\""): self = .string(try scanner.string())
        case UInt8(ascii: "{"):
            guard depth < scanner.maximumDepth else { throw JSONError(.tooDeep, at: scanner.position) }
            var members: [Member] = []
            var seen: [String: Int] = [:]
            var isFirst = true
            try scanner.beginObject()
            while let key = try scanner.nextKey(isFirst: &isFirst) {
                let member = Member(key.string, try JSON(&scanner, depth: depth + 1))
                if let index = seen[member.key] {
                    members[index] = member
                } else {
                    seen[member.key] = members.count
                    members.append(member)
                }
            }
            self = .object(members)
        case UInt8(ascii: "["):
            guard depth < scanner.maximumDepth else { throw JSONError(.tooDeep, at: scanner.position) }
            var elements: [JSON] = []
            var isFirst = true
            try scanner.beginArray()
            while try scanner.nextElement(isFirst: &isFirst) { elements.append(try JSON(&scanner, depth: depth + 1)) }
            self = .array(elements)
        case UInt8(ascii: "t"), UInt8(ascii: "f"): self = .bool(try scanner.bool())
        case UInt8(ascii: "n"):
            try scanner.literal("null")
            self = .null
        default: self = .number(try scanner.numberText())
        }
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int64) { self = .integer(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(arrayLiteral elements: JSON...) { self = .array(elements) }
    package init(dictionaryLiteral elements: (String, JSON)...) { self = .object(elements.map { Member($0, $1) }) }
}

extension JSONWriter {
    package mutating func value(_ value: JSON) {
        switch value {
        case .null: self.null()
        case .bool(let value): self.bool(value)
        case .number(let text): self.raw(Bytes(text.utf8))
        case .string(let text): self.string(text)
        case .array(let elements):
            self.beginArray()
            for element in elements { self.value(element) }
            self.endArray()
        case .object(let members):
            self.beginObject()
            for member in members {
                self.key(escaping: member.key)
                self.value(member.value)
            }
            self.endObject()
        case .raw(let json): self.raw(json)
        }
    }
}
