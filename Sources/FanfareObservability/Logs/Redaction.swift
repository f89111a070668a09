/// Keeps secrets out of logs: values of fields that are named like one, and the user part of URLs.
package enum Redaction {
    static let placeholder = "[redacted]"
    private static let words = [
        "secret", "token", "password", "passwd", "authorization", "apikey", "api_key", "api-key", "cookie",
        "credential",
        "jwt", "private_key",
    ]

    static func isSecret(_ key: String) -> Bool {
        let key = key.lowercased()
        return self.words.contains { key.contains($0) }
    }

    /// `redis://user:pass@host` becomes `redis://[redacted]@host`, wherever it stands in the text.
    package static func urls(in text: String) -> String {
        guard text.utf8.contains(UInt8(ascii: "@")) else { return text }
        var result = ""
        var rest = Substring(text)
        while let scheme = rest.utf8.firstRange(of: "://".utf8) {
            result += rest[..<scheme.upperBound]
            rest = rest[scheme.upperBound...]
            // The user part ends at the last @ before the path, query or the text goes on.
            let authority = rest.prefix { !$0.isWhitespace && !"/?#\"'".contains($0) }
            if let at = authority.lastIndex(of: "@") {
                result += self.placeholder
                rest = rest[at...]
            }
        }
        return result + rest
    }
}

extension Substring.UTF8View {
    fileprivate func firstRange(of pattern: String.UTF8View) -> Range<Index>? {
        var start = self.startIndex
        while start < self.endIndex {
            if self[start...].starts(with: pattern) {
                return start..<self.index(start, offsetBy: pattern.count)
            }
            start = self.index(after: start)
        }
        return nil
    }
}
