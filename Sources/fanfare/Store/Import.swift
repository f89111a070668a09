import ArgumentParser
import FanfareCommand
import FanfareModel
import FanfarePostgres
import FanfareProtocol

struct Import: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Bring in data from elsewhere.",
        discussion: """
            Example:
              fanfare import follows follows.csv
            """,
        subcommands: [Follows.self])

    struct Follows: AsyncParsableCommand {
        enum OnError: String, CaseIterable, ExpressibleByArgument { case stop, skip }

        static let configuration = CommandConfiguration(
            abstract: "Import who follows whom.",
            discussion: """
                Reads one streamer,follower per line, millions of them; a first line with these words is a header. What is
                there already stays, so that an import that broke off is simply run again.

                Examples:
                  fanfare import follows follows.csv
                  zcat follows.csv.gz | fanfare import follows - --on-error skip
                """)

        @Argument(help: "The file; - for standard input.")
        var file: String

        @Option(help: "What to do at a line that makes no sense: stop or skip.")
        var onError: OnError = .stop

        @Flag(help: "The same as --on-error skip.")
        var skipBadLines = false

        @Flag(help: "Print the result as JSON.")
        var json = false

        @OptionGroup var store: StoreOptions

        func run() async throws {
            try await reporting {
                let source = try ByteSource(self.file)
                let importer = try FollowImporter(self.store.configuration())
                let run = ImportRun(source: source, skips: self.skipBadLines || self.onError == .skip)
                do {
                    let done = try await run.execute(importer)
                    self.report(done, skipped: run.progress.skipped)
                } catch {
                    let lines = Readable.count(run.lastLine)
                    throw CommandError(
                        "\(error)"
                            + (run.lastLine > 0 ? "; everything up to line \(lines) is in, and may be read again" : ""))
                }
            }
        }

        private func report(_ done: FollowImporter.Progress, skipped: Int) {
            if self.json {
                Output.line(
                    JSON.object([
                        .init("lines", .integer(done.lines)), .init("new_follows", .integer(done.newFollows)),
                        .init("new_users", .integer(done.newUsers)), .init("self_follows", .integer(done.selfFollows)),
                        .init("skipped", .integer(skipped)),
                    ]).serialize())
                return
            }
            var text = "\(Readable.count(done.lines)) follows read, \(Readable.count(done.newFollows)) new, "
            text += "\(Readable.count(done.newUsers)) new users"
            if done.selfFollows > 0 { text += ", \(Readable.count(done.selfFollows)) of users themselves left out" }
            if skipped > 0 { text += ", \(Readable.count(skipped)) bad lines skipped" }
            Output.line(text)
        }
    }
}
