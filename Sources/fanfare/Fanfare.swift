import ArgumentParser
import FanfareCommand
import FanfareEngines
import Glibc

@main
enum Program {
    static func main() async {
        // A reader that goes away is told by the write (`fanfare watch … | head -1`); an import does not end for want of
        // somebody who looks at its progress.
        signal(SIGPIPE, SIG_IGN)
        await Fanfare.main()
    }
}

struct Fanfare: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fanfare",
        abstract: "A clustered notification fabric for live streaming.",
        discussion: """
            Examples:
              fanfare serve --insecure-dev                       one node, in memory
              fanfare watch room:lobby                           what happens in a room
              fanfare publish room:lobby '{"text":"hello"}'      say something there

            Exit codes: 0 done, 1 failed, 64 wrong usage.
            """,
        version: Version.current,
        subcommands: [
            Serve.self, Token.self, Watch.self, Publish.self, Migrate.self, Import.self, Cluster.self,
            Events.self, DeadLetters.self, Bench.self,
        ])
}

/// Runs a command's body; what fails becomes one line on standard error and exit code 1.
func reporting(_ body: () async throws -> Void) async throws {
    do {
        try await body()
    } catch let exit as ExitCode {
        throw exit
    } catch let error as ValidationError {
        throw error
    } catch let error as EngineError {
        Output.note("fanfare: \(error.message)")
        throw ExitCode.failure
    } catch {
        Output.note("fanfare: \(error)")
        throw ExitCode.failure
    }
}
