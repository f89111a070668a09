import ArgumentParser
import FanfareCommand
import Foundation
import Glibc

struct Watch: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print what is published to a channel, until Ctrl-C.",
        discussion: """
            Comes back after a break of the connection, and prints what was missed. Each line holds offset, user and
            data, separated by tabs; with --json the whole push.

            Example:
              fanfare watch room:lobby --url http://127.0.0.1:8000
            """)

    @Argument(help: "The channel, such as room:lobby or user:alice.")
    var channel: String

    @Option(help: "A connection token (FANFARE_TOKEN); without one the viewer is anonymous.")
    var token: String?

    @Flag(help: "Print each push as JSON.")
    var json = false

    @OptionGroup var server: ServerOptions

    func run() async throws {
        try await reporting {
            // Every line is written at once, so that there is nothing to tidy up.
            for code in [SIGINT, SIGTERM] { signal(code) { _ in _exit(0) } }
            let token = self.token ?? ProcessInfo.processInfo.environment["FANFARE_TOKEN"]
            let client = WatchClient(address: try self.server.address(), channel: self.channel, token: token)
            let isJSON = self.json
            try await client.run(
                publish: { publication in
                    if isJSON { Output.line(publication.push) } else { Output.line(publication.text) }
                },
                note: { Output.note("fanfare: \($0)") })
        }
    }
}
