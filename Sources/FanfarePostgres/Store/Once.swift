import FanfareModel

/// What makes a unit of work happen once: a key, and what it stands for.
struct Once: Sendable {
    let scope: String
    let key: String
    let content: Bytes
    /// The caller gave the key. Otherwise it stands for this call alone, to know its work again after a lost link.
    let isCallers: Bool
}

/// What a key stands for, unambiguous: each part with its length before it.
struct OnceContent: Sendable {
    let bytes: Bytes

    init(_ parts: [String]) {
        var bytes: Bytes = []
        for part in parts {
            PostgresValue.append(Int64(part.utf8.count), to: &bytes)
            bytes.append(contentsOf: part.utf8)
        }
        self.bytes = bytes
    }
}

/// The little JSON that the store writes itself.
enum JSONText {
    static func object(_ members: [(name: String, value: String)]) -> String {
        "{" + members.map { self.string($0.name) + ":" + self.string($0.value) }.joined(separator: ",") + "}"
    }

    static func string(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\n": quoted += "\\n"
            case "\r": quoted += "\\r"
            case "\t": quoted += "\\t"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                quoted += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}

extension PostgresStore {
    func once(scope: String, key: String?, content: OnceContent) -> Once {
        guard let key else { return Once(scope: "call", key: self.callKey(), content: [], isCallers: false) }
        return Once(scope: scope, key: key, content: content.bytes, isCallers: true)
    }

    /// Stands for one call: 128 random bits.
    func callKey() -> String {
        String(self.random(), radix: 36) + "-" + String(self.random(), radix: 36)
    }
}

extension PostgresSession {
    /// Serialises those who use the same key. Taken before any other lock.
    func lock(_ once: Once) throws(PostgresError) {
        guard once.isCallers else { return }
        try self.query(
            "SELECT pg_advisory_xact_lock(hashtextextended($1 || chr(10) || $2, 2))",
            [.text(once.scope), .text(once.key)])
    }

    /// What was done under this key before.
    /// - Throws: `FanfareError` 1006 where it was something else.
    func first(_ once: Once) throws -> (event: EventID, stream: Int64?)? {
        let rows = try self.query(
            "SELECT event_id, stream_id, content = sha256($3) FROM idempotency_keys WHERE scope = $1 AND key = $2",
            [.text(once.scope), .text(once.key), .bytea(once.content)])
        guard !rows.isEmpty else { return nil }
        guard try rows.bool(0, 2) else { throw FanfareError.duplicateWithAnotherContent }
        return (EventID(try rows.int64(0, 0)), try rows.int64OrNil(0, 1))
    }
}
