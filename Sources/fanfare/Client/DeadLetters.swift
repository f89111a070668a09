import ArgumentParser
import FanfareCommand
import FanfareProtocol

struct DeadLetters: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "deadletters",
        abstract: "Look after work that failed for good.",
        discussion: """
            Example:
              fanfare deadletters list --error-class data --newer-than 1h
            """,
        subcommands: [List.self, Show.self, Replay.self, Discard.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List dead letters, oldest first.",
            discussion: """
                Needs FANFARE_API_KEY in the environment.

                Examples:
                  fanfare deadletters list --kind fanout --limit 20
                  fanfare deadletters list --streamer ada --sqlstate 23514 --json
                """)

        @OptionGroup var filter: DeadLetterOptions

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
                var members = try self.filter.query().members
                members.append(.init("limit", .integer(self.limit)))
                members.append(.init("count", true))
                if self.settled { members.append(.init("settled", true)) }
                let result = try await self.server.api().call("dead_letters", .object(members))
                let letters = result["dead_letters"]?.arrayValue ?? []
                if self.json { return Output.line(JSON.array(letters).serialize()) }
                for line in Tables.deadLetters(letters) { Output.line(line) }
                let total = Int(result["total"]?.integerValue ?? 0)
                if total > letters.count, let last = letters.last?["id"]?.stringValue {
                    Output.note("\(Readable.count(total - letters.count)) more: --after \(last)")
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
                let parameters: JSON = ["ids": [.string(String(self.id))], "settled": true]
                let result = try await self.server.api().call("dead_letters", parameters)
                guard let letter = result["dead_letters"]?.arrayValue?.first else {
                    throw CommandError("there is no dead letter \(self.id)")
                }
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
                Once what caused them is mended. What belongs together (the same order key)
                goes in the order of its events. One that was replayed or discarded before
                is an error, and nothing is done. Needs FANFARE_API_KEY in the environment.

                Examples:
                  fanfare deadletters replay 17 18
                  fanfare deadletters replay --error-class data --older-than 10m --dry-run
                  fanfare deadletters replay --all --rate 100
                """)

        @OptionGroup var choice: DeadLetterChoice

        func run() async throws {
            try await self.choice.settle(by: "replay_dead_letters", verb: "replayed")
        }
    }

    struct Discard: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give dead letters up.",
            discussion: """
                They stay on record as discarded. Needs FANFARE_API_KEY in the environment.

                Examples:
                  fanfare deadletters discard 17
                  fanfare deadletters discard --event 42
                """)

        @OptionGroup var choice: DeadLetterChoice

        func run() async throws {
            try await self.choice.settle(by: "discard_dead_letters", verb: "discarded")
        }
    }
}

/// Dead letters by what they are.
struct DeadLetterOptions: ParsableArguments {
    @Option(help: "Those of this event.")
    var event: String?

    @Option(help: "Those of this kind: fanout, outbox, push.")
    var kind: String?

    @Option(help: "Those that were to go there: user:ann, shard:17, outbox.")
    var endpoint: String?

    @Option(help: "data, conflict, timeout, resources, connection, read_only, statement, other.")
    var errorClass: String?

    @Option(help: "Those with this SQLSTATE, such as 23514.")
    var sqlstate: String?

    @Option(help: "Those of this streamer's events.")
    var streamer: String?

    @Option(help: "Those for this user.")
    var user: String?

    @Option(help: ArgumentHelp("Last failed longer ago than this: 90s, 15m, 2h, 7d.", valueName: "age"))
    var olderThan: String?

    @Option(help: ArgumentHelp("Last failed within this time.", valueName: "age"))
    var newerThan: String?

    @Option(help: ArgumentHelp("Those with a higher id.", valueName: "id"))
    var after: Int64?

    @Option(help: ArgumentHelp("Those up to this id.", valueName: "id"))
    var upTo: Int64?

    func validate() throws {
        _ = try self.query()
    }

    func query() throws -> DeadLetterQuery {
        var query = DeadLetterQuery()
        query.event = self.event
        query.kind = self.kind
        query.endpoint = self.endpoint
        query.errorClass = self.errorClass
        query.sqlState = self.sqlstate
        query.streamer = self.streamer
        query.user = self.user
        do {
            query.olderThan = try self.olderThan.map { text throws(CommandError) in try DeadLetterQuery.age(text) }
            query.newerThan = try self.newerThan.map { text throws(CommandError) in try DeadLetterQuery.age(text) }
        } catch {
            throw ValidationError("\(error)")
        }
        query.after = self.after
        query.upTo = self.upTo
        guard (self.after ?? 0) >= 0, (self.upTo ?? 0) >= 0 else { throw ValidationError("Ids are not negative.") }
        return query
    }
}

/// Which dead letters are to be settled, and how.
struct DeadLetterChoice: ParsableArguments {
    @Argument(help: "The ids; or give filters, or --all.")
    var ids: [Int64] = []

    @Flag(help: "All that wait.")
    var all = false

    @OptionGroup var filter: DeadLetterOptions

    @Flag(help: "Show what would be done, and do nothing.")
    var dryRun = false

    @Option(help: ArgumentHelp("So many a second at the most, 1-100000.", valueName: "number"))
    var rate: Int?

    @Flag(help: "Print the result as JSON.")
    var json = false

    @OptionGroup var server: ServerOptions

    func validate() throws {
        let query = try self.filter.query()
        let isFiltered = query != DeadLetterQuery()
        switch (self.ids.isEmpty, self.all) {
        case (false, false) where !isFiltered: break
        case (true, true): break
        case (true, false) where !query.isForAll: break
        default: throw ValidationError("Name the ids, or filters, or --all.")
        }
        guard self.ids.count <= 1000 else { throw ValidationError("At most 1000 ids at a time.") }
        guard self.ids.allSatisfy({ $0 >= 0 }) else { throw ValidationError("Ids are not negative.") }
        if let rate, !(1...100_000).contains(rate) { throw ValidationError("The rate is 1-100000.") }
    }

    func settle(by method: String, verb: String) async throws {
        try await reporting {
            let run = SettlementRun(
                api: try self.server.api(), method: method, verb: verb, rate: self.rate, showsList: !self.json)
            let count: Int
            if self.dryRun {
                count = try await self.ids.isEmpty ? run.preview(self.filter.query()) : run.preview(self.ids)
            } else {
                count = try await self.ids.isEmpty ? run.settle(self.filter.query()) : run.settle(self.ids)
            }
            if self.json {
                let result: JSON =
                    self.dryRun
                    ? .object([.init(verb, 0), .init("matched", .integer(count))])
                    : .object([.init(verb, .integer(count))])
                Output.line(result.serialize())
            } else {
                Output.line((self.dryRun ? "would be \(verb)" : verb) + ": \(count)")
            }
        }
    }
}
