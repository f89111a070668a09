import Glibc
import Logging

/// Writes one line per event, as text for people or as JSON for collectors.
struct LineLogHandler: LogHandler {
    var metadata: Logger.Metadata
    var metadataProvider: Logger.MetadataProvider?
    var logLevel: Logger.Level

    private let label: String
    private let format: LogConfiguration.Format
    private let isColoured: Bool
    private let sink: any LogSink

    init(label: String, configuration: LogConfiguration, sink: any LogSink) {
        self.label = label
        self.metadata = configuration.metadata
        self.logLevel = configuration.level
        self.format = configuration.format
        self.isColoured = configuration.isColoured
        self.sink = sink
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var metadata = self.metadata
        if let provided = self.metadataProvider?.get() { metadata.merge(provided) { $1 } }
        if let given = event.metadata { metadata.merge(given) { $1 } }
        if let error = event.error, metadata["error"] == nil { metadata["error"] = "\(error)" }
        var fields: [LogField] = []
        LogField.flatten(metadata, prefix: "", depth: 0, into: &fields)
        fields.sort { $0.key < $1.key }
        let line = LogLine(
            time: LogLine.now(), level: event.level, label: self.label,
            message: Redaction.urls(in: event.message.description), fields: fields)
        let bytes =
            switch self.format {
            case .json: line.json()
            case .text: line.text(isColoured: self.isColoured)
            }
        self.sink.write(bytes, isUrgent: event.level >= .warning)
    }
}

/// A metadata value with its path: `outer.inner`.
struct LogField: Sendable, Hashable {
    enum Value: Sendable, Hashable {
        case text(String)
        case list([String])
    }
    var key: String
    var value: Value

    /// Deeper values are written as one text.
    private static let maximumDepth = 4

    static func flatten(_ metadata: Logger.Metadata, prefix: String, depth: Int, into fields: inout [LogField]) {
        for (name, value) in metadata {
            let key = prefix + name
            guard !Redaction.isSecret(name) else {
                fields.append(LogField(key: key, value: .text(Redaction.placeholder)))
                continue
            }
            switch value {
            case .dictionary(let inner) where depth < self.maximumDepth:
                self.flatten(inner, prefix: key + ".", depth: depth + 1, into: &fields)
            case .array(let values):
                fields.append(LogField(key: key, value: .list(values.map { Redaction.urls(in: $0.description) })))
            case .string, .stringConvertible, .dictionary:
                fields.append(LogField(key: key, value: .text(Redaction.urls(in: value.description))))
            }
        }
    }
}

struct LogLine: Sendable {
    /// Milliseconds since 1970.
    var time: Int64
    var level: Logger.Level
    var label: String
    var message: String
    var fields: [LogField]

    static func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }

    /// RFC 3339 in UTC with milliseconds.
    var timestamp: String {
        var seconds = time_t(self.time / 1000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func pad(_ value: Int, _ width: Int) -> String {
            let text = String(value)
            return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
        }
        return pad(Int(parts.tm_year) + 1900, 4) + "-" + pad(Int(parts.tm_mon) + 1, 2) + "-"
            + pad(Int(parts.tm_mday), 2)
            + "T" + pad(Int(parts.tm_hour), 2) + ":" + pad(Int(parts.tm_min), 2) + ":" + pad(Int(parts.tm_sec), 2) + "."
            + pad(Int(self.time % 1000), 3) + "Z"
    }

    // MARK: JSON

    private static let reserved: Set<String> = ["time", "level", "logger", "message"]

    func json() -> [UInt8] {
        var line: [UInt8] = []
        line.reserveCapacity(256)
        line += "{\"time\":\"\(self.timestamp)\",\"level\":\"\(self.level.rawValue)\",\"logger\":".utf8
        LogLine.appendJSON(self.label, to: &line)
        line += ",\"message\":".utf8
        LogLine.appendJSON(self.message, to: &line)
        for field in self.fields {
            line.append(UInt8(ascii: ","))
            LogLine.appendJSON(LogLine.reserved.contains(field.key) ? "metadata." + field.key : field.key, to: &line)
            line.append(UInt8(ascii: ":"))
            switch field.value {
            case .text(let text): LogLine.appendJSON(text, to: &line)
            case .list(let values):
                line.append(UInt8(ascii: "["))
                for (index, value) in values.enumerated() {
                    if index > 0 { line.append(UInt8(ascii: ",")) }
                    LogLine.appendJSON(value, to: &line)
                }
                line.append(UInt8(ascii: "]"))
            }
        }
        line += "}\n".utf8
        return line
    }

    private static func appendJSON(_ text: String, to line: inout [UInt8]) {
        line.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""): line += "\\\"".utf8
            case UInt8(ascii: "\\"): line += "\\\\".utf8
            case UInt8(ascii: "\n"): line += "\\n".utf8
            case UInt8(ascii: "\r"): line += "\\r".utf8
            case UInt8(ascii: "\t"): line += "\\t".utf8
            case 0..<0x20:
                line += (byte < 0x10 ? "\\u000" : "\\u00").utf8
                line += String(byte, radix: 16).utf8
            default: line.append(byte)
            }
        }
        line.append(UInt8(ascii: "\""))
    }

    // MARK: Text

    func text(isColoured: Bool) -> [UInt8] {
        let (dim, reset) = isColoured ? ("\u{1b}[2m", "\u{1b}[0m") : ("", "")
        let colour = isColoured ? LogLine.colour(of: self.level) : ""
        let name = self.level.rawValue.uppercased()
        var line = "\(dim)\(self.timestamp)\(reset) \(colour)\(name)\(reset)"
        line += String(repeating: " ", count: max(1, 9 - name.utf8.count))
        line += "\(dim)\(LogLine.plain(self.label)):\(reset) \(LogLine.plain(self.message))"
        for field in self.fields {
            let value =
                switch field.value {
                case .text(let text): LogLine.quoted(text)
                case .list(let values): "[" + values.map(LogLine.quoted).joined(separator: ", ") + "]"
                }
            line += " \(dim)\(LogLine.plain(field.key))=\(reset)\(value)"
        }
        return Array(line.utf8) + [UInt8(ascii: "\n")]
    }

    private static func colour(of level: Logger.Level) -> String {
        switch level {
        case .trace, .debug: "\u{1b}[36m"
        case .info, .notice: "\u{1b}[32m"
        case .warning: "\u{1b}[33m"
        case .error, .critical: "\u{1b}[31m"
        }
    }

    /// Control characters are written as escapes: nobody forges a line or steers a terminal.
    private static func plain(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else { return text }
        var plain = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": plain += "\\n"
            case "\r": plain += "\\r"
            case "\t": plain += "\\t"
            case _ where scalar.properties.generalCategory == .control:
                plain += "\\u{\(String(scalar.value, radix: 16))}"
            default: plain.unicodeScalars.append(scalar)
            }
        }
        return plain
    }

    private static func quoted(_ text: String) -> String {
        let needsQuotes = text.isEmpty || text.contains { $0.isWhitespace || $0 == "\"" || $0 == "=" || $0 == "," }
        guard needsQuotes else { return self.plain(text) }
        let escaped = text.split(separator: "\\", omittingEmptySubsequences: false).joined(separator: "\\\\")
            .split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\\\"")
        return "\"" + self.plain(escaped) + "\""
    }
}
