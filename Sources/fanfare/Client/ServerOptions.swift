import ArgumentParser
import FanfareCommand
import Foundation

/// Which node a command talks to.
struct ServerOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Base URL of a node (FANFARE_URL; default: \(ServerAddress.defaultURL)).", valueName: "url"))
    var url: String?

    func address() throws(CommandError) -> ServerAddress {
        let environment = ProcessInfo.processInfo.environment
        let candidates = [self.url, environment["FANFARE_URL"], environment["FANFARE_NODE_URLS"]]
        let text = candidates.compactMap { $0 }.first { !$0.isEmpty } ?? ServerAddress.defaultURL
        // The cluster scripts list several nodes: any of them will do.
        return try ServerAddress(text.split(separator: " ").first.map(String.init) ?? text)
    }

    func api() throws(CommandError) -> ServerAPI {
        try ServerAPI(address: self.address(), key: ProcessInfo.processInfo.environment["FANFARE_API_KEY"])
    }
}
