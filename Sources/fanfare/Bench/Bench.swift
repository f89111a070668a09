import ArgumentParser
import FanfareCommand
import FanfareGateway
import FanfareLoops
import Glibc
import Logging

struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure, and serve what is measured against.",
        discussion: """
            Example:
              fanfare bench echo --port 9001
            """,
        subcommands: [Echo.self])

    struct Echo: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Serve a WebSocket echo on the delivery loops.",
            discussion: """
                Every message comes back as it is, on every path: for conformance suites and as a baseline. Ends with
                Ctrl-C.

                Example:
                  fanfare bench echo --port 9001
                """)

        @Option(help: "The address to listen on.")
        var host = "127.0.0.1"

        @Option(help: "The port to listen on; 0 takes a free one.")
        var port: UInt16 = 9001

        @Option(help: "How many loops, one thread each.")
        var loops = 1

        @Option(help: "The longest message in bytes.")
        var maximumMessage = 16 << 20

        func validate() throws {
            guard self.loops >= 1 else { throw ValidationError("--loops is at least 1") }
            guard self.maximumMessage >= 1 else { throw ValidationError("--maximum-message is at least 1") }
        }

        func run() async throws {
            try await reporting {
                let group = try EdgeLoopGroup(count: self.loops)
                var options = ConnectionOptions()
                options.maximumMessage = self.maximumMessage
                options.maximumQueuedBytes = max(options.maximumQueuedBytes, 4 * self.maximumMessage)
                let listener = Listener(
                    group: group,
                    routes: ConnectionRoutes(webSocketPath: nil, http: nil) { transport, _ in
                        EchoHandler(transport: transport)
                    }, options: options, logger: Logger(label: "fanfare.bench"))
                let port = try await listener.start(host: self.host, port: self.port)
                Output.note("echoing on ws://\(self.host):\(port)/")
                while true { pause() }
            }
        }
    }
}
