import ArgumentParser
import FanfareCommand

/// Builds the node from its configuration and runs it until it is told to end.
/// - Throws: what stops the start: one line for the operator.
func runNode(_ configuration: ServeConfiguration) async throws {
    Output.note("fanfare: no node is composed in this build")
    throw ExitCode.failure
}
