package import FanfareModel

/// A parameter of a statement, sent in PostgreSQL's binary format (big-endian). The type is known even where the value
/// is NULL, so that a statement is prepared once.
package enum PostgresValue: Sendable, Hashable {
    case bool(Bool?)
    case int2(Int16?)
    case int4(Int32?)
    case int8(Int64?)
    case text(String?)
    case bytea(Bytes?)
    case int2s([Int16])
    case int8s([Int64])
    case texts([String?])
    case byteas([Bytes])

    /// The type's OID in `pg_type`.
    var oid: UInt32 {
        switch self {
        case .bool: 16
        case .bytea: 17
        case .int8: 20
        case .int2: 21
        case .int4: 23
        case .text: 25
        case .byteas: 1001
        case .int2s: 1005
        case .texts: 1009
        case .int8s: 1016
        }
    }

    /// Appends the value's bytes.
    /// - Returns: false where the value is NULL.
    func encode(into buffer: inout Bytes) -> Bool {
        switch self {
        case .bool(let value): return Self.append(value.map { $0 ? 1 as UInt8 : 0 }, to: &buffer)
        case .int2(let value): return Self.append(value, to: &buffer)
        case .int4(let value): return Self.append(value, to: &buffer)
        case .int8(let value): return Self.append(value, to: &buffer)
        case .text(let value):
            guard let value else { return false }
            buffer.append(contentsOf: value.utf8)
            return true
        case .bytea(let value):
            guard let value else { return false }
            buffer.append(contentsOf: value)
            return true
        case .int2s(let values):
            Self.appendArray(values, element: 21, to: &buffer) { value, buffer in
                Self.append(2 as Int32, to: &buffer)
                Self.append(value, to: &buffer)
            }
        case .int8s(let values):
            Self.appendArray(values, element: 20, to: &buffer) { value, buffer in
                Self.append(8 as Int32, to: &buffer)
                Self.append(value, to: &buffer)
            }
        case .texts(let values):
            Self.appendArray(values, element: 25, to: &buffer) { value, buffer in
                Self.append(value.map { Int32($0.utf8.count) } ?? -1, to: &buffer)
                if let value { buffer.append(contentsOf: value.utf8) }
            }
        case .byteas(let values):
            Self.appendArray(values, element: 17, to: &buffer) { value, buffer in
                Self.append(Int32(value.count), to: &buffer)
                buffer.append(contentsOf: value)
            }
        }
        return true
    }

    static func append(_ value: some FixedWidthInteger, to buffer: inout Bytes) {
        withUnsafeBytes(of: value.bigEndian) { buffer.append(contentsOf: $0) }
    }

    private static func append(_ value: (some FixedWidthInteger)?, to buffer: inout Bytes) -> Bool {
        guard let value else { return false }
        self.append(value, to: &buffer)
        return true
    }

    private static func appendArray<Element>(
        _ values: [Element], element: UInt32, to buffer: inout Bytes, _ body: (Element, inout Bytes) -> Void
    ) {
        self.append((values.isEmpty ? 0 : 1) as Int32, to: &buffer)
        self.append(1 as Int32, to: &buffer)
        self.append(element, to: &buffer)
        guard !values.isEmpty else { return }
        self.append(Int32(values.count), to: &buffer)
        self.append(1 as Int32, to: &buffer)
        for value in values { body(value, &buffer) }
    }

    // Values as the store has them. Unsigned ones stay below 2^63 by construction: sequences, offsets, fences.

    static func int8(_ value: UInt64) -> PostgresValue { .int8(Int64(clamping: value)) }
    static func shard(_ shard: Shard) -> PostgresValue { .int2(Int16(shard.index)) }
    static func shards(_ shards: some Sequence<Shard>) -> PostgresValue { .int2s(shards.map { Int16($0.index) }) }
    static func users(_ users: some Sequence<UserID>) -> PostgresValue { .texts(users.map(\.rawValue)) }
}
