import ArgumentParser
import FanfareCommand
import FanfareProtocol

extension Events {
    struct Scheduled: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List events that wait for their time, oldest first.",
            discussion: """
                Needs FANFARE_API_KEY in the environment.

                Example:
                  fanfare events scheduled --settled --json
                """)

        @Flag(help: "Those sent or cancelled in the last days, too.")
        var settled = false

        @Option(help: ArgumentHelp("Those with a higher id.", valueName: "id"))
        var after: Int64?

        @Option(help: "How many at the most, 1-1000.")
        var limit = 100

        @Flag(help: "Print an array of JSON objects.")
        var json = false

        @OptionGroup var server: ServerOptions

        func validate() throws {
            guard (1...1000).contains(self.limit) else { throw ValidationError("The limit is 1-1000.") }
            guard (self.after ?? 0) >= 0 else { throw ValidationError("Ids are not negative.") }
        }

        func run() async throws {
            try await reporting {
                var members: [JSON.Member] = [.init("limit", .integer(self.limit))]
                if self.settled { members.append(.init("settled", true)) }
                if let after { members.append(.init("after", .string(String(after)))) }
                let result = try await self.server.api().call("scheduled_events", .object(members))
                let events = result["scheduled_events"]?.arrayValue ?? []
                if self.json { return Output.line(JSON.array(events).serialize()) }
                for line in Tables.scheduledEvents(events) { Output.line(line) }
                if events.count == self.limit, let last = events.last?["scheduled_id"]?.stringValue {
                    Output.note("there may be more: --after \(last)")
                }
            }
        }
    }

    struct Unschedule: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give up an event that waits for its time.",
            discussion: """
                Repeating is harmless. Needs FANFARE_API_KEY in the environment.

                Example:
                  fanfare events unschedule 7
                """)

        @Argument(help: "The scheduled event's id, as `events scheduled` shows it.")
        var id: Int64

        @Flag(help: "Print the result as JSON.")
        var json = false

        @OptionGroup var server: ServerOptions

        func validate() throws {
            guard self.id >= 0 else { throw ValidationError("Ids are not negative.") }
        }

        func run() async throws {
            try await reporting {
                let id = JSON.string(String(self.id))
                _ = try await self.server.api().call("cancel_scheduled_event", ["scheduled_id": id])
                if self.json {
                    Output.line(JSON.object([.init("scheduled_id", id), .init("state", "cancelled")]).serialize())
                } else {
                    Output.line("\(self.id) cancelled")
                }
            }
        }
    }
}
