package import FanfareModel

/// When, and as what, work that takes long is shown: a bar on a terminal several times a second, else a line now and then.
package struct ProgressLine: Sendable {
    private let isTerminal: Bool
    private var shown: MonotonicInstant?

    /// - Parameter begun: nothing is shown right after it; nil: the first text is shown at once.
    package init(isTerminal: Bool, begun: MonotonicInstant? = nil) {
        self.isTerminal = isTerminal
        self.shown = begun
    }

    /// - Returns: whether it is time to show something; it is taken for shown then.
    package mutating func isDue(_ now: MonotonicInstant) -> Bool {
        if let shown, now - shown < (self.isTerminal ? .milliseconds(200) : .seconds(5)) { return false }
        self.shown = now
        return true
    }

    /// How much is done, and how long the rest takes.
    /// - Parameter remaining: in seconds; nil where it is not known.
    package func head(_ share: Double, remaining: Int64?) -> String {
        var text = ""
        if self.isTerminal {
            let filled = Int((share * 30).rounded(.down))
            text += "[" + String(repeating: "#", count: filled) + String(repeating: ".", count: 30 - filled) + "] "
        }
        text += "\(Int(share * 100)) % "
        if let remaining { text += "(\(Readable.duration(seconds: remaining)) left) " }
        return text
    }

    /// The same, where the rest goes on as what is done.
    /// - Parameter seconds: how long it took so far.
    package func head(_ share: Double, after seconds: Double) -> String {
        self.head(share, remaining: share > 0.01 && share < 1 ? Int64(seconds / share * (1 - share)) : nil)
    }
}
