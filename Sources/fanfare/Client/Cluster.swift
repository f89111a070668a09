import ArgumentParser
import FanfareCommand
import FanfareProtocol

struct Cluster: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look at the cluster, and take nodes out of it.",
        discussion: """
            Example:
              fanfare cluster status
            """,
        subcommands: [Status.self, Slots.self, Drain.self])

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

    struct Slots: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show which node owns which slots, or a channel.",
            discussion: """
                Needs FANFARE_API_KEY in the environment. `--json` without a channel lists every slot.

                Examples:
                  fanfare cluster slots
                  fanfare cluster slots room:lobby
                """)

        @Argument(help: "Show the slot of this channel and its owner.")
        var channel: String?

        @Flag(help: "Print the slots as JSON.")
        var json = false

        @OptionGroup var server: ServerOptions

        func run() async throws {
            try await reporting {
                var parameters: JSON = [:]
                if let channel = self.channel { parameters = ["channel": .string(channel)] }
                let slots = try await self.server.api().call("cluster_slots", parameters)
                if self.json {
                    var shown = slots
                    if let channel = slots["channel"] { shown = ["view": slots["view"] ?? .null, "channel": channel] }
                    Output.line(shown.serialize())
                } else {
                    for line in Tables.slots(slots) { Output.line(line) }
                }
            }
        }
    }

    struct Drain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take a node out of the cluster in peace.",
            discussion: """
                Does what SIGTERM does: the node's slots move, its clients are sent to the other nodes, then it ends.
                Needs FANFARE_API_KEY in the environment. Any node passes it on.

                Example:
                  fanfare cluster drain node-2 --url http://127.0.0.1:8000
                """)

        @Argument(help: "The node's name, as `cluster status` shows it.")
        var node: String

        @OptionGroup var server: ServerOptions

        func run() async throws {
            try await reporting {
                _ = try await self.server.api().call("drain", ["node": .string(self.node)])
                Output.line("\(self.node) drains and then ends")
            }
        }
    }
}
