package import FanfareModel
package import FanfareProtocol

/// What is shown of an event while somebody watches it: a bar on a terminal, else a line every few seconds.
package struct EventProgress: Sendable {
    private var line: ProgressLine

    package init(isTerminal: Bool) { self.line = ProgressLine(isTerminal: isTerminal) }

    /// The text to show now, if it is time.
    /// - Parameter status: as `event_status` answers.
    package mutating func due(_ status: JSON, now: MonotonicInstant) -> String? {
        self.line.isDue(now) ? self.text(status) : nil
    }

    package func text(_ status: JSON) -> String {
        let state = status["state"]?.stringValue ?? ""
        let done = EventProgress.number(status["done"])
        var parts: [String] = []
        var share: Double?
        if let total = status["total"]?.integerValue {
            share = total > 0 ? min(1, Double(done) / Double(total)) : 1
            parts.append("\(Readable.count(done)) of \(Readable.count(Int(total))) recipients")
        } else {
            parts.append("\(Readable.count(done)) recipients")
        }
        let rate = EventProgress.number(status["rate_per_s"])
        if rate > 0 { parts.append("\(Readable.count(rate))/s") }
        for (key, name) in [
            ("delivered_online", "pushed online"), ("dead_letters", "dead letters"), ("withdrawn", "taken back"),
        ] {
            let count = EventProgress.number(status[key])
            if count > 0 { parts.append("\(Readable.count(count)) \(name)") }
        }
        if state != "running", !state.isEmpty { parts.append(state) }
        let remaining = status["eta_s"]?.integerValue.flatMap { $0 > 0 ? $0 : nil }
        return (share.map { self.line.head($0, remaining: remaining) } ?? "") + parts.joined(separator: ", ")
    }

    /// Nothing of it will change by itself any more.
    package static func isOver(_ status: JSON) -> Bool {
        status["completed_at"].map { !$0.isNull } ?? false
    }

    private static func number(_ value: JSON?) -> Int { Int(value?.integerValue ?? 0) }
}
