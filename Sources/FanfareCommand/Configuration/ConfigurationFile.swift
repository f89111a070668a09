import Foundation
import Yams

/// Reads a configuration file: YAML, or JSON, which is YAML too.
package enum ConfigurationFile {
    /// A larger file is refused.
    static let maximumBytes = 1 << 20

    /// - Returns: the settings by name.
    /// - Throws: where the file is missing, malformed, or has a key that is no setting.
    package static func read(_ path: String) throws(ConfigurationError) -> [String: String] {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw ConfigurationError("config: cannot read the file '\(path)'")
        }
        guard data.count <= self.maximumBytes else {
            throw ConfigurationError("config: '\(path)' is larger than 1 MiB")
        }
        guard let text = String(data: data, encoding: .utf8) else {
            throw ConfigurationError("config: '\(path)' is not UTF-8")
        }
        return try self.parse(text, name: path)
    }

    /// - Parameter name: the file's, for messages.
    package static func parse(_ text: String, name: String) throws(ConfigurationError) -> [String: String] {
        let node: Node?
        do {
            node = try Yams.compose(yaml: text)
        } catch {
            let line = (error as? YamlError).map { "\($0)" }?.split(separator: "\n").first.map(String.init) ?? "syntax"
            throw ConfigurationError("config: '\(name)' is malformed: \(line)")
        }
        guard let node else { return [:] }
        var values: [String: String] = [:]
        try self.flatten(node, path: [], name: name, into: &values)
        return values
    }

    private static func flatten(
        _ node: Node, path: [String], name: String, into values: inout [String: String]
    ) throws(ConfigurationError) {
        let key = path.joined(separator: "_")
        switch node {
        case .mapping(let mapping):
            guard path.count < 4 else { throw ConfigurationError("config: '\(name)' is nested too deep at \(key)") }
            for (inner, value) in mapping {
                guard let word = inner.scalar?.string else {
                    throw ConfigurationError("config: '\(name)' has a key that is no text")
                }
                let normal = word.lowercased().split(separator: "-", omittingEmptySubsequences: false)
                    .joined(separator: "_")
                try self.flatten(value, path: path + [normal], name: name, into: &values)
            }
        case .scalar(let scalar):
            try self.set(key, node.null != nil ? "" : scalar.string, name: name, into: &values)
        case .sequence(let sequence):
            var words: [String] = []
            for element in sequence {
                guard let word = element.scalar?.string else {
                    throw ConfigurationError("config: \(key) in '\(name)' has an element that is no text")
                }
                words.append(word)
            }
            try self.set(key, words.joined(separator: ","), name: name, into: &values)
        case .alias:
            throw ConfigurationError("config: '\(name)' has an alias at \(key)")
        }
    }

    private static func set(
        _ key: String, _ value: String, name: String, into values: inout [String: String]
    ) throws(ConfigurationError) {
        guard !key.isEmpty else { throw ConfigurationError("config: '\(name)' is no list of settings") }
        guard Setting.all.contains(where: { $0.name == key }) else {
            let nearest = Setting.all.map(\.name).min { self.distance($0, key) < self.distance($1, key) }
            let hint = nearest.flatMap { self.distance($0, key) <= 3 ? "; is it '\($0)'?" : nil } ?? ""
            throw ConfigurationError("config: '\(name)' has the unknown key '\(key.prefix(100))'\(hint)")
        }
        guard values[key] == nil else { throw ConfigurationError("config: '\(name)' sets '\(key)' twice") }
        values[key] = value
    }

    /// How many letters differ (Levenshtein).
    private static func distance(_ left: String, _ right: String) -> Int {
        let left = Array(left.utf8)
        var row = Array(0...left.count)
        for (index, letter) in right.utf8.prefix(100).enumerated() {
            var diagonal = row[0]
            row[0] = index + 1
            for column in left.indices {
                let cost = min(diagonal + (left[column] == letter ? 0 : 1), row[column] + 1, row[column + 1] + 1)
                diagonal = row[column + 1]
                row[column + 1] = cost
            }
        }
        return row[left.count]
    }
}
