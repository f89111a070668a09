import FanfareModel

/// A reply in RESP2. An error is a value: the server said so, the link is fine.
enum RedisReply: Sendable, Hashable {
    case status(String)
    case error(String)
    case integer(Int64)
    case bulk(Bytes)
    case null
    case array([RedisReply])

    var bytes: Bytes? {
        switch self {
        case .bulk(let bytes): bytes
        case .status(let text): Array(text.utf8)
        case .error, .integer, .null, .array: nil
        }
    }

    var text: String? { self.bytes.map { String(decoding: $0, as: UTF8.self) } }

    /// A number that scripts return as a string, because a reply's integer loses precision on its way out of Lua.
    var number: UInt64? {
        switch self {
        case .integer(let value): UInt64(exactly: value)
        case .bulk, .status: self.text.flatMap { UInt64($0) }
        case .error, .null, .array: nil
        }
    }

    var elements: [RedisReply]? {
        guard case .array(let elements) = self else { return nil }
        return elements
    }
}
