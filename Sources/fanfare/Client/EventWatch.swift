import FanfareCommand
import FanfareModel
import FanfareProtocol

/// Looks at one event again and again until it is complete.
struct EventWatch {
    private static let interval = Duration.seconds(1)
    /// A node that is away or busy for so long is given up.
    private static let patience = Duration.seconds(60)

    let api: ServerAPI
    let isJSON: Bool

    /// - Returns: the last status.
    func follow(_ first: JSON) async throws -> JSON {
        let isTerminal = Output.isErrorTerminal
        var progress = EventProgress(isTerminal: isTerminal)
        let started = ContinuousClock.now
        var status = first
        var printed: JSON?
        var lastAnswer = started
        while true {
            if self.isJSON, status != printed {
                Output.line(status.serialize())
                printed = status
            } else if !self.isJSON {
                let now = MonotonicInstant(nanoseconds: (ContinuousClock.now - started).nanoseconds)
                if let text = progress.due(status, now: now) { isTerminal ? Output.progress(text) : Output.note(text) }
            }
            guard !EventProgress.isOver(status) else { break }
            // Nodes tell nobody how far an event is: they are asked, at this pace.
            try await Task.sleep(for: EventWatch.interval)
            do throws(CommandError) {
                status = try await self.api.call("event_status", ["event_id": first["event_id"] ?? .null])
                lastAnswer = .now
            } catch {
                // Nodes come and go; the event goes on without them.
                guard ContinuousClock.now - lastAnswer < EventWatch.patience else { throw error }
            }
        }
        if isTerminal, !self.isJSON { Output.progress("") }
        return status
    }
}
