package import FanfareModel

/// What an import shows while it runs: a bar on a terminal, else a line every few seconds.
package struct ImportProgress: Sendable {
    package var imported = 0
    package var skipped = 0
    package var readBytes: Int64 = 0
    /// Nil where it is not known: standard input.
    package let totalBytes: Int64?
    private let started: MonotonicInstant
    private let isTerminal: Bool
    private var shown: MonotonicInstant

    package init(totalBytes: Int64?, isTerminal: Bool, now: MonotonicInstant) {
        self.totalBytes = totalBytes.flatMap { $0 > 0 ? $0 : nil }
        self.isTerminal = isTerminal
        self.started = now
        self.shown = now
    }

    /// The text to show now, if it is time.
    package mutating func due(now: MonotonicInstant) -> String? {
        guard now - self.shown >= (self.isTerminal ? .milliseconds(200) : .seconds(5)) else { return nil }
        self.shown = now
        return self.text(now: now)
    }

    package func text(now: MonotonicInstant) -> String {
        let seconds = max(0.001, (now - self.started).secondsAsDouble)
        var text = ""
        if let total = self.totalBytes {
            let share = min(1, Double(self.readBytes) / Double(total))
            if self.isTerminal {
                let filled = Int((share * 30).rounded(.down))
                text += "[" + String(repeating: "#", count: filled) + String(repeating: ".", count: 30 - filled) + "] "
            }
            text += "\(Int(share * 100)) % "
            if share > 0.01, share < 1 {
                text += "(\(Readable.duration(seconds: Int64(seconds / share * (1 - share)))) left) "
            }
        }
        text += "\(Readable.count(self.imported)) follows, \(Readable.count(Int(Double(self.imported) / seconds)))/s"
        if self.skipped > 0 { text += ", \(Readable.count(self.skipped)) lines skipped" }
        return text
    }
}
