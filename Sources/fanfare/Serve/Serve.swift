import ArgumentParser
import FanfareCommand
import Foundation

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a node.",
        discussion: """
            Every setting can be given on the command line, in the environment, or in a
            YAML or JSON file; the first of these wins. Times are 25s, 500ms, 5m, 1h or
            plain seconds; sizes are 64KiB, 1MiB or plain bytes.

            Examples:
              fanfare serve --insecure-dev
              fanfare serve --port 8001 --redis-url redis://127.0.0.1:6379
              fanfare serve --config node.yaml
            with lines such as `ping_interval: 10s` in the file.
            """)

    @OptionGroup var options: ServeOptions

    func run() async throws {
        try await reporting {
            let configuration = try ServeConfiguration.read(
                commandLine: self.options.values, environment: ProcessInfo.processInfo.environment,
                machine: .current)
            try await runNode(configuration)
        }
    }
}
