/// Where a Redis is: `redis://[user:password@]host[:port][/database]`.
package struct RedisURL: Sendable, Hashable, CustomStringConvertible {
    package enum ParseError: Error, Hashable, Sendable, CustomStringConvertible {
        case notAURL
        /// `rediss://`
        case tlsUnsupported
        case unknownScheme(String)
        case missingHost
        case badPort(String)
        case badDatabase(String)
        case badEscape
        case unexpectedParts

        package var description: String {
            switch self {
            case .notAURL: "not of the form redis://[user:password@]host[:port][/database]"
            case .tlsUnsupported:
                "rediss:// (TLS) is not supported: put a TLS tunnel beside the node, or use a private network"
            case .unknownScheme(let scheme): "unknown scheme \(scheme)://: only redis:// is supported"
            case .missingHost: "the host is missing"
            case .badPort(let port): "\(port) is no port (1–65535)"
            case .badDatabase(let database): "\(database) is no database number"
            case .badEscape: "a percent escape is malformed, or what it stands for is no UTF-8"
            case .unexpectedParts: "query and fragment are not supported"
            }
        }
    }

    package var host: String
    package var port: Int
    /// Empty for the default user.
    package var user: String
    package var password: String?
    package var database: Int

    package init(host: String, port: Int = 6379, user: String = "", password: String? = nil, database: Int = 0) {
        self.host = host
        self.port = port
        self.user = user
        self.password = password
        self.database = database
    }

    package init(parsing text: String) throws(ParseError) {
        guard let separator = text.firstIndex(of: ":"), text[separator...].hasPrefix("://") else { throw .notAURL }
        switch text[..<separator].lowercased() {
        case "redis": break
        case "rediss": throw .tlsUnsupported
        default: throw .unknownScheme(String(text[..<separator]))
        }
        var rest = text[separator...].dropFirst(3)
        guard !rest.contains(where: { $0 == "?" || $0 == "#" }) else { throw .unexpectedParts }
        self.init(host: "")
        if let slash = rest.firstIndex(of: "/") {
            let database = rest[slash...].dropFirst()
            if !database.isEmpty {
                guard let number = Self.number(database), number <= 65_535 else {
                    throw .badDatabase(String(database))
                }
                self.database = number
            }
            rest = rest[..<slash]
        }
        if let at = rest.lastIndex(of: "@") {
            let credentials = rest[..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            self.user = try Self.unescape(credentials[0])
            if credentials.count == 2 { self.password = try Self.unescape(credentials[1]) }
            rest = rest[at...].dropFirst()
        }
        try self.parseAuthority(rest)
    }

    private mutating func parseAuthority(_ text: Substring) throws(ParseError) {
        var host = text
        var port: Substring?
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else { throw .notAURL }
            host = text[..<end].dropFirst()
            let after = text[end...].dropFirst()
            if !after.isEmpty {
                guard after.hasPrefix(":") else { throw .notAURL }
                port = after.dropFirst()
            }
        } else if let colon = text.firstIndex(of: ":") {
            host = text[..<colon]
            port = text[colon...].dropFirst()
        }
        guard !host.isEmpty else { throw .missingHost }
        self.host = try Self.unescape(host)
        if let port, !port.isEmpty {
            guard let number = Self.number(port), (1...65_535).contains(number) else { throw .badPort(String(port)) }
            self.port = number
        }
    }

    private static func number(_ text: Substring) -> Int? {
        text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ? Int(text) : nil
    }

    private static func unescape(_ text: Substring) throws(ParseError) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2, let high = Self.digit(rest.removeFirst()), let low = Self.digit(rest.removeFirst())
            else { throw .badEscape }
            bytes.append(high << 4 | low)
        }
        guard let string = String(validating: bytes, as: UTF8.self) else { throw .badEscape }
        return string
    }

    private static func digit(_ character: UInt8) -> UInt8? {
        UInt8(String(UnicodeScalar(character)), radix: 16)
    }

    /// Without the password.
    package var description: String {
        let host = self.host.contains(":") ? "[\(self.host)]" : self.host
        return "redis://\(host):\(self.port)/\(self.database)"
    }
}
