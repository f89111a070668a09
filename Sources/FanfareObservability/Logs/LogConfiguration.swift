package import Logging

/// How a node logs: where the level and the format come from, and what every line carries.
package struct LogConfiguration: Sendable {
    package enum Format: String, Sendable, CaseIterable { case text, json }

    package var level: Logger.Level
    package var format: Format
    package var isColoured: Bool
    /// In every line: the node, above all.
    package var metadata: Logger.Metadata

    package init(
        level: Logger.Level = .info, format: Format = .json, isColoured: Bool = false, metadata: Logger.Metadata = [:]
    ) {
        self.level = level
        self.format = format
        self.isColoured = isColoured
        self.metadata = metadata
    }

    /// Reads `LOG_LEVEL` and `LOG_FORMAT` (an empty one counts as absent): info, and text on a terminal, else JSON lines.
    /// Colours need a terminal, and `NO_COLOR` to be absent.
    /// - Throws: a value that is not known.
    package init(environment: [String: String], isTerminal: Bool) throws(LogConfigurationError) {
        self.init(
            level: try LogConfiguration.level(environment["LOG_LEVEL"] ?? ""),
            format: try LogConfiguration.format(environment["LOG_FORMAT"] ?? "", isTerminal: isTerminal))
        self.isColoured = isTerminal && self.format == .text && (environment["NO_COLOR"] ?? "").isEmpty
    }

    package static func level(_ text: String) throws(LogConfigurationError) -> Logger.Level {
        let name = text.lowercased()
        if name.isEmpty { return .info }
        if name == "warn" { return .warning }
        guard let level = Logger.Level(rawValue: name) else {
            throw LogConfigurationError(
                name: "LOG_LEVEL", value: text, allowed: Logger.Level.allCases.map(\.rawValue))
        }
        return level
    }

    package static func format(_ text: String, isTerminal: Bool) throws(LogConfigurationError) -> Format {
        if text.isEmpty { return isTerminal ? .text : .json }
        guard let format = Format(rawValue: text.lowercased()) else {
            throw LogConfigurationError(name: "LOG_FORMAT", value: text, allowed: Format.allCases.map(\.rawValue))
        }
        return format
    }

    /// Makes this the process's logging. Once per process.
    package func bootstrap(sink: some LogSink = StandardErrorSink.shared) {
        LoggingSystem.bootstrap { label in self.handler(label: label, sink: sink) }
    }

    package func handler(label: String, sink: some LogSink) -> any LogHandler {
        LineLogHandler(label: label, configuration: self, sink: sink)
    }
}

package struct LogConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
    package let name: String
    package let value: String
    package let allowed: [String]
    package var description: String {
        "\(self.name) is '\(self.value)'; allowed are \(self.allowed.joined(separator: ", "))"
    }
}
