internal import FanfareEngines
internal import FanfareModel
internal import FanfareProtocol

/// A method's parameters: reads and validates them one by one. Unknown members are ignored.
struct Parameters {
    static let maximumIdempotencyKey = 255

    private let object: JSONObject
    /// Bytes of a payload.
    private let maximumData: Int

    /// - Parameter bytes: a JSON object; empty or `null` for none.
    init(_ bytes: Bytes, maximumData: Int) throws(FanfareError) {
        self.object = try Parameters.translate { () throws(JSONError) in
            try JSONObject(bytes.isEmpty || bytes == Bytes("null".utf8) ? Bytes("{}".utf8) : bytes)
        }
        self.maximumData = maximumData
    }

    private init(_ object: JSONObject, maximumData: Int) {
        self.object = object
        self.maximumData = maximumData
    }

    /// What is wrong with JSON is the sender's mistake.
    static func translate<Value>(_ body: () throws(JSONError) -> Value) throws(FanfareError) -> Value {
        do {
            return try body()
        } catch {
            throw .badRequest(error.description)
        }
    }

    // MARK: Plain values

    func string(_ key: String) throws(FanfareError) -> String? {
        try Parameters.translate { () throws(JSONError) in try self.object.string(key) }
    }

    /// - Parameter maximum: in bytes.
    func string(_ key: String, upTo maximum: Int) throws(FanfareError) -> String {
        guard let value = try self.string(key), !value.isEmpty else { throw .badRequest("'\(key)' is missing") }
        guard value.utf8.count <= maximum else { throw .badRequest("'\(key)' is longer than \(maximum) bytes") }
        return value
    }

    func bool(_ key: String) throws(FanfareError) -> Bool {
        try Parameters.translate { () throws(JSONError) in try self.object.bool(key) } ?? false
    }

    func integer(_ key: String) throws(FanfareError) -> Int64? {
        try Parameters.translate { () throws(JSONError) in try self.object.integer(key) }
    }

    func object(_ key: String) throws(FanfareError) -> Parameters? {
        try Parameters.translate { () throws(JSONError) in try self.object.object(key) }
            .map { Parameters($0, maximumData: self.maximumData) }
    }

    func array(_ key: String) throws(FanfareError) -> [Bytes]? {
        try Parameters.translate { () throws(JSONError) in try self.object.array(key) }
    }

    func strings(_ key: String) throws(FanfareError) -> [String]? {
        try Parameters.translate { () throws(JSONError) in try self.object.strings(key) }
    }

    var keys: [String] { self.object.keys }

    /// A member's JSON as it came; nil where it is absent.
    func raw(_ key: String) -> Bytes? { self.object.raw(key) }

    /// Whether it was given: `null` counts as absent.
    func isPresent(_ key: String) -> Bool { self.raw(key).map { $0 != Bytes("null".utf8) } ?? false }

    // MARK: Values with a meaning

    /// One of few words.
    func choice(_ key: String, of words: [String]) throws(FanfareError) -> String? {
        guard let word = try self.string(key) else { return nil }
        guard words.contains(word) else { throw .badRequest("'\(key)' is one of \(words.joined(separator: ", "))") }
        return word
    }

    /// A time in whole seconds, up to 100 years.
    func seconds(_ key: String) throws(FanfareError) -> Duration? {
        guard self.isPresent(key), let seconds = try self.integer(key) else { return nil }
        guard (0...3_155_760_000).contains(seconds) else { throw .badRequest("'\(key)' is no number of seconds") }
        return .seconds(seconds)
    }

    func user(_ key: String) throws(FanfareError) -> UserID {
        let text = try self.string(key, upTo: 1024)
        guard let user = UserID(text) else { throw .badRequest("'\(key)' is no legal user id") }
        return user
    }

    func client(_ key: String) throws(FanfareError) -> ClientID? {
        guard let text = try self.string(key), !text.isEmpty else { return nil }
        return ClientID(text)
    }

    func channel(_ key: String = "channel") throws(FanfareError) -> Channel {
        guard let name = try self.string(key), !name.isEmpty else { throw .badRequest("'\(key)' is missing") }
        return try Channel(name)
    }

    func idempotencyKey() throws(FanfareError) -> String? {
        guard let key = try self.string("idempotency_key"), !key.isEmpty else { return nil }
        guard key.utf8.count <= Parameters.maximumIdempotencyKey else {
            throw .badRequest("'idempotency_key' is longer than \(Parameters.maximumIdempotencyKey) bytes")
        }
        return key
    }

    /// `version` and `version_epoch`; 0 is none, as from callers that name every member.
    func version() throws(FanfareError) -> PublicationVersion? {
        guard let version = try self.integer("version"), version != 0 else { return nil }
        guard version > 0 else { throw .badRequest("'version' is negative") }
        let epoch = try self.string("version_epoch") ?? ""
        guard epoch.utf8.count <= Parameters.maximumIdempotencyKey else {
            throw .badRequest("'version_epoch' is longer than \(Parameters.maximumIdempotencyKey) bytes")
        }
        return PublicationVersion(number: UInt64(version), epoch: epoch)
    }

    /// A payload: raw JSON, or JSON that came as base64 under `encodedKey`. Where it may be absent the result is empty.
    func data(_ key: String, encoded encodedKey: String? = nil, isRequired: Bool = true) throws(FanfareError) -> Bytes {
        if let data = self.raw(key) {
            try self.checkPayload(data, named: key)
            return data
        }
        if let encodedKey, let text = try self.string(encodedKey), !text.isEmpty {
            guard let data = Base64.decode(text) else { throw .badRequest("'\(encodedKey)' is no base64") }
            try self.checkPayload(data, named: encodedKey)
            return JSONScanner.line(data)
        }
        guard !isRequired else { throw .badRequest("'\(key)' is missing") }
        return []
    }

    /// Within its limits, and JSON: others get it inside a line of JSON.
    private func checkPayload(_ data: Bytes, named key: String) throws(FanfareError) {
        guard data.count <= self.maximumData else {
            throw .badRequest("'\(key)' is larger than \(self.maximumData) bytes")
        }
        do throws(JSONError) {
            try JSONScanner.validate(data)
        } catch {
            throw .badRequest("'\(key)': \(error)")
        }
    }

    func tags() throws(FanfareError) -> [String: String] {
        let tags = try Parameters.translate { () throws(JSONError) in try self.object.stringMap("tags") } ?? [:]
        guard tags.count <= 32, tags.reduce(0, { $0 + $1.key.utf8.count + $1.value.utf8.count }) <= 4096 else {
            throw .badRequest("'tags' has more than 32 members or 4096 bytes")
        }
        return tags
    }

    func streamPosition(_ key: String) throws(FanfareError) -> StreamPosition? {
        guard let position = try self.object(key) else { return nil }
        guard let offset = UInt64(exactly: try position.integer("offset") ?? 0) else {
            throw .badRequest("'\(key)' has a negative offset")
        }
        return StreamPosition(offset: offset, epoch: try position.string("epoch") ?? "")
    }

    /// 1–`maximum`.
    func limit(default standard: Int, maximum: Int) throws(FanfareError) -> Int {
        guard let limit = try self.integer("limit") else { return standard }
        guard (1...Int64(maximum)).contains(limit) else { throw .badRequest("'limit' is 1 to \(maximum)") }
        return Int(limit)
    }

    /// An id: a decimal number as a string, or, for callers that do without quotes, as a number.
    func identifier(_ key: String) throws(FanfareError) -> Int64? {
        guard let raw = self.raw(key), raw != Bytes("null".utf8) else { return nil }
        return try Parameters.identifier(raw, named: key)
    }

    func identifiers(_ key: String, upTo maximum: Int) throws(FanfareError) -> [Int64]? {
        guard let elements = try self.array(key) else { return nil }
        guard elements.count <= maximum else { throw .limitExceeded("'\(key)' has more than \(maximum) elements") }
        var identifiers: [Int64] = []
        for element in elements { identifiers.append(try Parameters.identifier(element, named: key)) }
        return identifiers
    }

    private static func identifier(_ raw: Bytes, named key: String) throws(FanfareError) -> Int64 {
        let value = try Parameters.translate { () throws(JSONError) in try JSON.parse(raw) }
        guard let identifier = value.stringValue.flatMap({ Int64($0) }) ?? value.integerValue, identifier >= 0 else {
            throw .badRequest("'\(key)' has an id that is no decimal number")
        }
        return identifier
    }
}

/// RFC 4648, section 4, with padding or without.
enum Base64 {
    /// - Returns: nil where `text` is no base64.
    static func decode(_ text: String) -> Bytes? {
        var bytes = Bytes()
        var accumulator: UInt32 = 0
        var bits: UInt32 = 0
        var padding = 0
        for character in text.utf8 {
            let value: UInt8
            switch character {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = character - UInt8(ascii: "A")
            case UInt8(ascii: "a")...UInt8(ascii: "z"): value = character - UInt8(ascii: "a") + 26
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = character - UInt8(ascii: "0") + 52
            case UInt8(ascii: "+"): value = 62
            case UInt8(ascii: "/"): value = 63
            case UInt8(ascii: "="):
                padding += 1
                continue
            default: return nil
            }
            guard padding == 0 else { return nil }
            accumulator = accumulator << 6 | UInt32(value)
            bits += 6
            guard bits >= 8 else { continue }
            bits -= 8
            bytes.append(UInt8(truncatingIfNeeded: accumulator >> bits))
        }
        return padding <= 2 && bits < 6 ? bytes : nil
    }
}
