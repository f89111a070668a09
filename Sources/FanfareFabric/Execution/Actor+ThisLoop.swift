extension Actor {
    /// Enters an actor of the loop that the caller runs on: no hop, no suspension. Traps where the caller runs elsewhere.
    ///
    /// `assumeIsolated` itself may not be called from asynchronous functions, for fear of executors that differ; here the
    /// executor is the loop by construction.
    package nonisolated func onThisLoop<Result: Sendable>(_ body: (isolated Self) -> Result) -> Result {
        self.assumeIsolated(body)
    }
}
