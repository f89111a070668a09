import ArgumentParser
import FanfareCommand
import FanfareProtocol

struct Cluster: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look at the cluster.",
        discussion: """
            Example:
              fanfare cluster status
            """,
        subcommands: [Status.self])

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show the nodes, their slots and sessions.",
            discussion: """
                Needs FANFARE_API_KEY in the environment. Any node knows the whole cluster.

                Example:
                  fanfare cluster status --url http://127.0.0.1:8002 --json
                """)

        @Flag(help: "Print the status as JSON.")
        var json = false

        @OptionGroup var server: ServerOptions

        func run() async throws {
            try await reporting {
                let status = try await self.server.api().call("cluster", [:])
                if self.json {
                    Output.line(status.serialize())
                } else {
                    for line in Tables.cluster(status) { Output.line(line) }
                }
            }
        }
    }
}
