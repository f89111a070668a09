import ArgumentParser
import FanfareCommand
import FanfareModel
import FanfareProtocol

struct Publish: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Publish to a channel, by the server API.",
        discussion: """
            Needs FANFARE_API_KEY in the environment.

            Example:
              fanfare publish room:lobby '{"text":"hello"}' --url http://127.0.0.1:8001
            """)

    @Argument(help: "The channel, such as room:lobby.")
    var channel: String

    @Argument(help: "Any JSON value.")
    var data: String

    @Option(help: "The same key within some minutes publishes once.")
    var idempotencyKey: String?

    @Flag(help: "Print the result as JSON.")
    var json = false

    @OptionGroup var server: ServerOptions

    func run() async throws {
        try await reporting {
            let data = Bytes(self.data.utf8)
            do throws(JSONError) {
                try JSONScanner.validate(data)
            } catch {
                throw CommandError(
                    error.problem == .tooDeep
                        ? "the data is nested more than \(JSONScanner.maximumDepth) levels deep"
                        : "the data is no JSON: strings stand in double quotes")
            }
            var parameters: [JSON.Member] = [.init("channel", .string(self.channel)), .init("data", .raw(data))]
            if let key = self.idempotencyKey { parameters.append(.init("idempotency_key", .string(key))) }
            let result = try await self.server.api().call("publish", .object(parameters))
            if self.json {
                Output.line(result.serialize())
            } else {
                Output.line("published\(result["offset"]?.integerValue.map { " at offset \($0)" } ?? "")")
            }
        }
    }
}
