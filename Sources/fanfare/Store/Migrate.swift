import ArgumentParser
import FanfareCommand
import FanfarePostgres
import FanfareProtocol

struct Migrate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Bring the database's schema up to date.",
        discussion: """
            Harmless to repeat, and while nodes run. `serve` does the same at its start.

            Example:
              fanfare migrate --database-url postgres://fanfare@127.0.0.1/fanfare
            """)

    @Flag(help: "Print the steps as JSON.")
    var json = false

    @OptionGroup var store: StoreOptions

    func run() async throws {
        try await reporting {
            let applied = try await PostgresStore.migrate(self.store.configuration())
            if self.json {
                let steps = applied.map { step -> JSON in ["number": .integer(step.number), "name": .string(step.name)]
                }
                Output.line(JSON.object([.init("applied", .array(steps))]).serialize())
            } else if applied.isEmpty {
                Output.line("the schema is up to date")
            } else {
                for step in applied { Output.line("applied \(step.number) \(step.name)") }
            }
        }
    }
}
