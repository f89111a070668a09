import ArgumentParser
import FanfareCommand
import FanfarePostgres
import Foundation

/// Which database a command works on.
struct StoreOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "postgres://user@host/database, or libpq's keyword=value pairs (DATABASE_URL).", valueName: "url"))
    var databaseUrl: String?

    func configuration() throws -> PostgresConfiguration {
        let candidates = [self.databaseUrl, ProcessInfo.processInfo.environment["DATABASE_URL"]]
        guard let url = candidates.compactMap({ $0 }).first(where: { !$0.isEmpty }) else {
            throw CommandError("no database: set --database-url or DATABASE_URL")
        }
        return try PostgresConfiguration(url: url)
    }
}
