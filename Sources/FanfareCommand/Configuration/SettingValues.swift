import Configuration
import Foundation

/// The settings' texts from all layers, read into values with one clear line for what is wrong.
///
/// Layers: command line, environment, file; the first that has a setting wins. An empty text counts as absent.
struct SettingValues {
    private let reader: ConfigReader

    init(commandLine: [String: String], environment: [String: String], file: [String: String]) {
        var fromEnvironment: [String: String] = [:]
        for setting in Setting.all { fromEnvironment[setting.name] = environment[setting.environment] }
        self.reader = ConfigReader(providers: [
            SettingValues.provider("command line", commandLine), SettingValues.provider("environment", fromEnvironment),
            SettingValues.provider("file", file),
        ])
    }

    private static func provider(_ name: String, _ values: [String: String]) -> InMemoryProvider {
        let secrets = Set(Setting.all.filter(\.isSecret).map(\.name))
        let pairs = values.filter { !$0.value.isEmpty }
            .map { (AbsoluteConfigKey([$0.key]), ConfigValue(.string($0.value), isSecret: secrets.contains($0.key))) }
        return InMemoryProvider(name: name, values: Dictionary(pairs) { first, _ in first })
    }

    func text(_ name: String) -> String? { self.reader.string(forKey: ConfigKey([name])) }

    func integer(_ name: String, in range: ClosedRange<Int>, default fallback: Int) throws(ConfigurationError) -> Int {
        try self.optionalInteger(name, in: range) ?? fallback
    }

    func optionalInteger(_ name: String, in range: ClosedRange<Int>) throws(ConfigurationError) -> Int? {
        guard let text = self.text(name) else { return nil }
        guard let value = Int(text), range.contains(value) else {
            throw self.error(name, text, "a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// `name=number,name=number`
    func integers(_ name: String, in range: ClosedRange<Int>) throws(ConfigurationError) -> [String: Int] {
        guard let text = self.text(name) else { return [:] }
        var values: [String: Int] = [:]
        for pair in text.split(separator: ",") {
            let parts = pair.split(separator: "=", omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty, let value = Int(parts[1]), range.contains(value),
                values.updateValue(value, forKey: String(parts[0])) == nil
            else {
                throw self.error(
                    name, text,
                    "pairs such as stream.live=\(range.upperBound), with numbers from \(range.lowerBound) to "
                        + "\(range.upperBound)")
            }
        }
        return values
    }

    func bytes(_ name: String, in range: ClosedRange<Int>, default fallback: Int) throws(ConfigurationError) -> Int {
        guard let text = self.text(name) else { return fallback }
        guard let value = Quantity.bytes(text), range.contains(value) else {
            throw self.error(
                name, text, "a size from \(range.lowerBound) to \(range.upperBound) bytes, such as 65536 or 64KiB")
        }
        return value
    }

    func duration(
        _ name: String, in range: ClosedRange<Duration>, default fallback: Duration
    ) throws(ConfigurationError) -> Duration {
        guard let text = self.text(name) else { return fallback }
        guard let value = Quantity.duration(text), range.contains(value) else {
            throw self.error(
                name, text,
                "a time from \(Quantity.text(range.lowerBound)) to \(Quantity.text(range.upperBound)), such as 25s or 500ms"
            )
        }
        return value
    }

    func flag(_ name: String) throws(ConfigurationError) -> Bool {
        guard let text = self.text(name) else { return false }
        switch text.lowercased() {
        case "true", "yes", "on", "1": return true
        case "false", "no", "off", "0": return false
        default: throw self.error(name, text, "true or false")
        }
    }

    /// The path of a file that can be read.
    func file(_ name: String) throws(ConfigurationError) -> String? {
        guard let path = self.text(name) else { return nil }
        guard FileManager.default.isReadableFile(atPath: path) else {
            throw self.error(name, path, "a file that can be read")
        }
        return path
    }

    func error(_ name: String, _ value: String, _ expected: String) -> ConfigurationError {
        guard let setting = Setting.all.first(where: { $0.name == name }) else {
            return ConfigurationError("\(name): not \(expected)")
        }
        return ConfigurationError(setting, value, expected)
    }
}

/// Sizes and times as people write them.
package enum Quantity {
    /// `25` and `0.5` are seconds; `500ms`, `25s`, `5m`, `1h`, `30d`.
    package static func duration(_ text: String) -> Duration? {
        guard let (number, unit) = self.split(text) else { return nil }
        let seconds: Double? =
            switch unit {
            case "", "s": 1
            case "ms": 0.001
            case "m", "min": 60
            case "h": 3600
            case "d": 86_400
            default: nil
            }
        guard let seconds, number * seconds <= 1e9 else { return nil }
        return .nanoseconds(Int64((number * seconds * 1e9).rounded()))
    }

    /// `65536`, `64KiB`, `1MiB`, `2GiB`; `K`, `M`, `G` and `KB` … mean the same.
    package static func bytes(_ text: String) -> Int? {
        guard let (number, unit) = self.split(text) else { return nil }
        let factor: Double? =
            switch unit.lowercased() {
            case "", "b": 1
            case "k", "kb", "kib": 1024
            case "m", "mb", "mib": 1_048_576
            case "g", "gb", "gib": 1_073_741_824
            default: nil
            }
        guard let factor, number * factor <= 1e15, (number * factor).rounded() == number * factor else { return nil }
        return Int(number * factor)
    }

    static func text(_ duration: Duration) -> String {
        let milliseconds = duration.components.seconds * 1000 + duration.components.attoseconds / 1_000_000_000_000_000
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] as [(String, Int64)]
        where milliseconds >= size && milliseconds % size == 0 { return "\(milliseconds / size)\(unit)" }
        return "\(milliseconds)ms"
    }

    private static func split(_ text: String) -> (Double, String)? {
        let text = text.filter { $0 != " " }
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        guard let number = Double(digits), number.isFinite else { return nil }
        return (number, String(text.dropFirst(digits.count)))
    }
}
