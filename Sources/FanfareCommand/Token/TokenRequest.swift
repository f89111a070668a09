package import FanfareModel
package import FanfareProtocol
import Foundation
import JWTKit

/// A connection token to be signed with the secret (docs/protocol.md, tokens).
package struct TokenRequest: Sendable, Hashable {
    package static let roles = ["viewer", "streamer", "moderator", "operator"]

    package var user: UserID
    package var role: String
    package var name: String?
    /// Nil: never expires.
    package var lifetime: Duration?
    /// Server-side subscriptions.
    package var channels: [String]

    /// - Throws: what no node would accept.
    package init(
        user: String, role: String = "viewer", name: String? = nil, lifetime: Duration? = .seconds(3600),
        channels: [String] = []
    ) throws(CommandError) {
        guard let user = UserID(user) else {
            throw CommandError("'\(user.prefix(100))' is no user id: 1-64 characters of A-Z a-z 0-9 _ . -")
        }
        guard TokenRequest.roles.contains(role) else {
            throw CommandError("'\(role.prefix(100))' is no role: \(TokenRequest.roles.joined(separator: ", "))")
        }
        for channel in channels {
            do {
                _ = try Channel(channel)
            } catch {
                throw CommandError("'\(channel.prefix(100))' is no channel: \(error.message)")
            }
        }
        if let lifetime, lifetime <= .zero { throw CommandError("the token's lifetime is not above 0") }
        self.user = user
        self.role = role
        self.name = name
        self.lifetime = lifetime
        self.channels = channels
    }

    /// Signs with HS256.
    package func sign(secret: String?, now: Timestamp) async throws(CommandError) -> String {
        guard let secret, !secret.isEmpty else {
            throw CommandError("no secret: set FANFARE_TOKEN_SECRET (./cluster/up keeps it in .cluster/env)")
        }
        let issued = now.milliseconds / 1000
        let claims = Claims(
            sub: self.user.rawValue, iat: issued, exp: self.lifetime.map { issued + max(1, $0.milliseconds / 1000) },
            role: self.role, name: self.name, channels: self.channels.isEmpty ? nil : self.channels)
        do {
            let keys = JWTKeyCollection()
            await keys.add(hmac: HMACKey(from: secret), digestAlgorithm: .sha256)
            return try await keys.sign(claims)
        } catch {
            throw CommandError("cannot sign: \(error)")
        }
    }

    /// The token with its claims, for programs.
    package func described(token: String, now: Timestamp) -> JSON {
        var members: [JSON.Member] = [
            .init("token", .string(token)), .init("user", .string(self.user.rawValue)),
            .init("role", .string(self.role)),
        ]
        if let lifetime {
            let expires = Timestamp(milliseconds: now.milliseconds / 1000 * 1000 + lifetime.milliseconds)
            members.append(.init("expires_at", .string(expires.description)))
        }
        return .object(members)
    }

    private struct Claims: JWTPayload {
        var sub: String
        var iat: Int64
        var exp: Int64?
        var role: String
        var name: String?
        var channels: [String]?
        func verify(using algorithm: some JWTAlgorithm) {}
    }
}
