import ArgumentParser
import FanfareCommand
import FanfareProtocol

struct DeadLetters: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "deadletters",
        abstract: "Look after work that failed for good.",
        discussion: """
            Example:
              fanfare deadletters list
            """,
        subcommands: [List.self, Show.self, Replay.self, Discard.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List dead letters, oldest first.",
            discussion: """
                Needs FANFARE_API_KEY in the environment.

                Example:
                  fanfare deadletters list --kind fanout --limit 20
                """)

        @Option(help: "Those of this event.")
        var event: String?

        @Option(help: "Those of this kind: fanout, outbox, push.")
        var kind: String?

        @Option(help: "Those with a higher id: the next page.")
        var after: Int64?

        @Option(help: "How many at the most, 1-1000.")
        var limit = 100

        @Flag(help: "Those replayed or discarded too.")
        var settled = false

        @Flag(help: "Print an array of JSON objects.")
        var json = false

        @OptionGroup var server: ServerOptions

        func validate() throws {
            guard (1...1000).contains(self.limit) else { throw ValidationError("The limit is 1-1000.") }
        }

        func run() async throws {
            try await reporting {
                var parameters: [JSON.Member] = [.init("limit", .integer(self.limit))]
                if let event = self.event { parameters.append(.init("event_id", .string(event))) }
                if let kind = self.kind { parameters.append(.init("kind", .string(kind))) }
                if let after = self.after { parameters.append(.init("after", .integer(after))) }
                if self.settled { parameters.append(.init("settled", true)) }
                let result = try await self.server.api().call("dead_letters", .object(parameters))
                let letters = result["dead_letters"]?.arrayValue ?? []
                if self.json {
                    Output.line(JSON.array(letters).serialize())
                } else {
                    for line in Tables.deadLetters(letters) { Output.line(line) }
                }
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show one dead letter with its payload.",
            discussion: """
                Needs FANFARE_API_KEY in the environment.

                Example:
                  fanfare deadletters show 17
                """)

        @Argument(help: "The dead letter's id.")
        var id: Int64

        @Flag(help: "Print it as JSON.")
        var json = false

        @OptionGroup var server: ServerOptions

        func run() async throws {
            try await reporting {
                let result = try await self.server.api()
                    .call("dead_letters", ["after": .integer(max(1, self.id) - 1), "limit": 1, "settled": true])
                guard let letter = result["dead_letters"]?.arrayValue?.first,
                    letter["id"]?.stringValue == String(self.id) || letter["id"]?.integerValue == self.id
                else { throw CommandError("there is no dead letter \(self.id)") }
                if self.json {
                    Output.line(letter.serialize())
                } else {
                    for line in Tables.deadLetter(letter) { Output.line(line) }
                }
            }
        }
    }

    struct Replay: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Put dead letters back to work.",
            discussion: """
                Once what caused them is mended. Needs FANFARE_API_KEY in the environment.

                Example:
                  fanfare deadletters replay 17 18
                """)

        @OptionGroup var choice: Choice

        func run() async throws {
            try await self.choice.settle(by: "replay_dead_letters", result: "replayed")
        }
    }

    struct Discard: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give dead letters up.",
            discussion: """
                They stay on record as discarded. Needs FANFARE_API_KEY in the environment.

                Example:
                  fanfare deadletters discard 17
                """)

        @OptionGroup var choice: Choice

        func run() async throws {
            try await self.choice.settle(by: "discard_dead_letters", result: "discarded")
        }
    }

    /// Which dead letters are meant.
    struct Choice: ParsableArguments {
        @Argument(help: "The ids.")
        var ids: [Int64] = []

        @Flag(help: "All that are there, up to 1000.")
        var all = false

        @Flag(help: "Print the result as JSON.")
        var json = false

        @OptionGroup var server: ServerOptions

        func validate() throws {
            guard self.ids.isEmpty == self.all else { throw ValidationError("Name the ids, or --all.") }
            guard self.ids.count <= 1000 else { throw ValidationError("At most 1000 ids at a time.") }
        }

        func settle(by method: String, result name: String) async throws {
            try await reporting {
                let parameters: JSON =
                    self.all ? ["all": true] : ["ids": .array(self.ids.map { .string(String($0)) })]
                let result = try await self.server.api().call(method, parameters)
                let count = result[name]?.integerValue ?? 0
                if self.json {
                    Output.line(result.serialize())
                } else {
                    Output.line("\(name): \(count)")
                }
                // An id that was mistyped must not pass for one that was settled.
                if !self.all, count < Set(self.ids).count {
                    throw CommandError("not all of these are dead letters that wait: see `fanfare deadletters list`")
                }
            }
        }
    }
}
