package import FanfareModel

/// What an import shows while it runs: a bar on a terminal, else a line every few seconds.
package struct ImportProgress: Sendable {
    package var imported = 0
    package var skipped = 0
    package var readBytes: Int64 = 0
    /// Nil where it is not known: standard input.
    package let totalBytes: Int64?
    private let started: MonotonicInstant
    private var line: ProgressLine

    package init(totalBytes: Int64?, isTerminal: Bool, now: MonotonicInstant) {
        self.totalBytes = totalBytes.flatMap { $0 > 0 ? $0 : nil }
        self.started = now
        self.line = ProgressLine(isTerminal: isTerminal, begun: now)
    }

    /// The text to show now, if it is time.
    package mutating func due(now: MonotonicInstant) -> String? {
        self.line.isDue(now) ? self.text(now: now) : nil
    }

    package func text(now: MonotonicInstant) -> String {
        let seconds = max(0.001, (now - self.started).secondsAsDouble)
        var text = ""
        if let total = self.totalBytes {
            let share = min(1, Double(self.readBytes) / Double(total))
            text += self.line.head(share, after: seconds)
        }
        text += "\(Readable.count(self.imported)) follows, \(Readable.count(Int(Double(self.imported) / seconds)))/s"
        if self.skipped > 0 { text += ", \(Readable.count(self.skipped)) lines skipped" }
        return text
    }
}
