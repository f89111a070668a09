import ArgumentParser
import FanfareCommand
import FanfareProtocol

struct Events: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look after events on their way to their recipients.",
        discussion: """
            Example:
              fanfare events list --state paused
            """,
        subcommands: [List.self, Status.self, Pause.self, Resume.self, Cancel.self, Scheduled.self, Unschedule.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List events, newest first.",
            discussion: """
                Those that are not complete, unless asked otherwise. Needs FANFARE_API_KEY in the
                environment.

                Examples:
                  fanfare events list
                  fanfare events list --streamer ada --all --limit 10
                  fanfare events list --state cancelled --json
                """)

        @Option(
            help: ArgumentHelp("Those in this state: \(EventQuery.states.joined(separator: ", ")).", valueName: "state")
        )
        var state: String?

        @Flag(help: "Those that are complete, too.")
        var all = false

        @Option(help: "Those of this type, such as stream.live.")
        var type: String?

        @Option(help: "Those for the followers of this streamer.")
        var streamer: String?

        @Option(help: ArgumentHelp("Those with a lower id.", valueName: "id"))
        var before: Int64?

        @Option(help: "How many at the most, 1-10000.")
        var limit = 50

        @Flag(help: "Print an array of JSON objects.")
        var json = false

        @OptionGroup var server: ServerOptions

        func validate() throws {
            guard (1...10_000).contains(self.limit) else { throw ValidationError("The limit is 1-10000.") }
            guard (self.before ?? 0) >= 0 else { throw ValidationError("Ids are not negative.") }
            guard self.state == nil || !self.all else { throw ValidationError("Give --state or --all, not both.") }
            if let state, !EventQuery.states.contains(state) {
                throw ValidationError("The state is one of \(EventQuery.states.joined(separator: ", ")).")
            }
        }

        func run() async throws {
            try await reporting {
                var query = EventQuery()
                query.state = self.state
                query.isForAll = self.all
                query.type = self.type
                query.streamer = self.streamer
                query.before = self.before
                let api = try self.server.api()
                var events: [JSON] = []
                var next: Int64?
                repeat {
                    let portion = min(EventQuery.largestPage, self.limit - events.count)
                    let page = try await api.call(
                        "events", .object(query.members + [.init("limit", .integer(portion))]))
                    events += page["events"]?.arrayValue ?? []
                    next = page["next"]?.stringValue.flatMap { Int64($0) }
                    query.before = next
                } while next != nil && events.count < self.limit
                if self.json { return Output.line(JSON.array(events).serialize()) }
                for line in Tables.events(events) { Output.line(line) }
                if let next { Output.note("there may be more: --before \(next)") }
            }
        }
    }

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show how far an event is.",
            discussion: """
                With --watch until it is complete, with progress on standard error. Needs
                FANFARE_API_KEY in the environment.

                Examples:
                  fanfare events status 42
                  fanfare events status 42 --watch --json
                """)

        @Argument(help: "The event's id.")
        var id: Int64

        @Flag(help: "Go on until the event is complete.")
        var watch = false

        @Flag(help: "Print it as JSON; with --watch a line whenever it has changed.")
        var json = false

        @OptionGroup var server: ServerOptions

        func validate() throws {
            guard self.id >= 0 else { throw ValidationError("Ids are not negative.") }
        }

        func run() async throws {
            try await reporting {
                let api = try self.server.api()
                var status = try await api.call("event_status", ["event_id": .string(String(self.id))])
                if self.watch { status = try await EventWatch(api: api, isJSON: self.json).follow(status) }
                if self.json {
                    // Whoever watches has got it.
                    if !self.watch { Output.line(status.serialize()) }
                } else {
                    for line in Tables.event(status) { Output.line(line) }
                }
            }
        }
    }

    struct Pause: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Stop the fan-out of events for a while.",
            discussion: """
                Repeating is harmless. Needs FANFARE_API_KEY in the environment.

                Example:
                  fanfare events pause 42
                """)

        @OptionGroup var choice: EventChoice

        func run() async throws { try await self.choice.control(by: "pause_event") }
    }

    struct Resume: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let events that were paused go on.",
            discussion: """
                Repeating is harmless. Needs FANFARE_API_KEY in the environment.

                Example:
                  fanfare events resume 42 43
                """)

        @OptionGroup var choice: EventChoice

        func run() async throws { try await self.choice.control(by: "resume_event") }
    }

    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "End the fan-out of events, and take back what is unread.",
            discussion: """
                There is no way back. Who has read an event keeps it. Needs FANFARE_API_KEY in
                the environment.

                Example:
                  fanfare events cancel 42
                """)

        @OptionGroup var choice: EventChoice

        func run() async throws { try await self.choice.control(by: "cancel_event") }
    }
}

/// Events that something is done with.
struct EventChoice: ParsableArguments {
    @Argument(help: "The events' ids.")
    var ids: [Int64]

    @Flag(help: "Print an array of JSON objects.")
    var json = false

    @OptionGroup var server: ServerOptions

    func validate() throws {
        guard (1...1000).contains(self.ids.count) else { throw ValidationError("At most 1000 ids at a time.") }
        guard self.ids.allSatisfy({ $0 >= 0 }) else { throw ValidationError("Ids are not negative.") }
    }

    /// One after the other; where one of them is refused the others are done all the same, and the command fails.
    func control(by method: String) async throws {
        try await reporting {
            let api = try self.server.api()
            var results: [JSON] = []
            var hasFailed = false
            for id in self.ids {
                do throws(CommandError) {
                    let result = try await api.call(method, ["event_id": .string(String(id))])
                    results.append(result)
                    if !self.json { Output.line("\(id) \(result["state"]?.stringValue ?? "done")") }
                } catch {
                    hasFailed = true
                    Output.note("fanfare: event \(id): \(error)")
                }
            }
            if self.json { Output.line(JSON.array(results).serialize()) }
            if hasFailed { throw ExitCode.failure }
        }
    }
}
