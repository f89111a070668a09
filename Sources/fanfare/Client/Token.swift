import ArgumentParser
import FanfareCommand
import FanfareModel
import FanfareProtocol
import Foundation

struct Token: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Sign a connection token.",
        discussion: """
            Signs with FANFARE_TOKEN_SECRET from the environment (HS256) and prints the token alone.

            Example:
              fanfare token alice --role moderator --ttl 8h
            """)

    @Argument(help: "The user's id: 1-64 characters of A-Z a-z 0-9 _ . -")
    var id: String?

    @Option(help: .hidden)
    var user: String?

    @Option(help: "\(TokenRequest.roles.joined(separator: ", ")).")
    var role = "viewer"

    @Option(help: "The name that others see.")
    var name: String?

    @Option(help: "Time until the token expires; 0 for never.")
    var ttl = "1h"

    @Option(help: "A channel to which the server subscribes the user; repeatable.")
    var channel: [String] = []

    @Flag(help: "Print an object with the token and its claims.")
    var json = false

    func validate() throws {
        guard (self.id == nil) != (self.user == nil) else {
            throw ValidationError("Name one user: fanfare token alice")
        }
    }

    func run() async throws {
        try await reporting {
            guard let lifetime = Quantity.duration(self.ttl) else {
                throw CommandError("'\(self.ttl)' is no time such as 1h or 30m")
            }
            let request = try TokenRequest(
                user: self.user ?? self.id ?? "", role: self.role, name: self.name,
                lifetime: lifetime == .zero ? nil : lifetime, channels: self.channel)
            let now = Timestamp(milliseconds: Int64(Date().timeIntervalSince1970 * 1000))
            let token = try await request.sign(
                secret: ProcessInfo.processInfo.environment["FANFARE_TOKEN_SECRET"], now: now)
            if self.json {
                Output.line(request.described(token: token, now: now).serialize())
            } else {
                Output.line(token)
            }
        }
    }
}
