/// The Prometheus text format, version 0.0.4.
package enum TextFormat {
    package static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    /// A name for a metric: `[a-zA-Z_][a-zA-Z0-9_]*` (colons are for recording rules).
    static func metricName(_ label: String) -> String {
        var name = ""
        name.reserveCapacity(label.utf8.count)
        for character in label.utf8 {
            switch character {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"):
                name.unicodeScalars.append(Unicode.Scalar(character))
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                if name.isEmpty { name = "_" }
                name.unicodeScalars.append(Unicode.Scalar(character))
            default: name.append("_")
            }
        }
        return name.isEmpty ? "_" : name
    }

    /// A name for a label: names that the format or the scraper reserves get the prefix `exported_`.
    static func labelName(_ label: String) -> String {
        let name = self.metricName(label)
        if name.hasPrefix("__") || name == "le" || name == "quantile" || name == "job" || name == "instance" {
            return "exported_" + name.drop { $0 == "_" }
        }
        return name
    }

    /// Shortest text that reads back as the same number; whole numbers without a point.
    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if value.magnitude < 0x1p53, value == value.rounded() { return String(Int64(value)) }
        return value.description
    }

    static func help(_ text: String) -> String { self.escape(text, quotes: false) }
    static func labelValue(_ text: String) -> String { self.escape(text, quotes: true) }

    private static func escape(_ text: String, quotes: Bool) -> String {
        let special: (UInt8) -> Bool = { character in
            character == UInt8(ascii: "\\") || character == UInt8(ascii: "\n")
                || (quotes && character == UInt8(ascii: "\""))
        }
        guard text.utf8.contains(where: special) else { return text }
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": escaped += "\\\\"
            case "\n": escaped += "\\n"
            case "\"" where quotes: escaped += "\\\""
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }

    /// `{a="b",c="d"}`, or nothing. `labels` are sanitized.
    static func labels(_ labels: Labels, adding extra: (name: String, value: String)? = nil) -> String {
        var parts = labels.pairs.map { "\($0.name)=\"\(self.labelValue($0.value))\"" }
        if let extra { parts.append("\(extra.name)=\"\(self.labelValue(extra.value))\"") }
        return parts.isEmpty ? "" : "{" + parts.joined(separator: ",") + "}"
    }
}

/// A series' labels: sanitized, sorted by name, each name once, no empty values (an empty value means the same as none).
struct Labels: Hashable, Comparable, Sendable {
    struct Pair: Hashable, Sendable {
        var name: String
        var value: String
    }
    let pairs: [Pair]

    init(_ dimensions: [(String, String)]) {
        var values: [String: String] = [:]
        for (name, value) in dimensions { values[TextFormat.labelName(name)] = value }
        self.pairs = values.filter { !$0.value.isEmpty }.map { Pair(name: $0.key, value: $0.value) }
            .sorted { $0.name < $1.name }
    }

    /// The series into which those above a limit are folded.
    var folded: Labels { Labels(self.pairs.map { ($0.name, "other") }) }

    static func < (left: Labels, right: Labels) -> Bool {
        left.pairs.lexicographicallyPrecedes(right.pairs) { ($0.name, $0.value) < ($1.name, $1.value) }
    }
}
