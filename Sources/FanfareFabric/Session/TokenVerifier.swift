package import FanfareModel

/// What a user may do beyond what everyone may.
package enum Role: String, Sendable, Hashable, CaseIterable {
    case viewer
    case streamer
    case moderator
    case `operator`
}

/// What a connection token said, after its signature and times were checked.
package struct VerifiedToken: Sendable, Hashable {
    package var user: UserID
    package var role: Role
    package var name: String?
    /// Raw JSON that others see in presence; empty where there is none.
    package var info: Bytes
    /// Server-side subscriptions.
    package var channels: [String]
    /// When the connection ends unless refreshed, in seconds since 1970; nil for never.
    package var expiresAt: Int64?

    package init(
        user: UserID, role: Role = .viewer, name: String? = nil, info: Bytes = [], channels: [String] = [],
        expiresAt: Int64? = nil
    ) {
        self.user = user
        self.role = role
        self.name = name
        self.info = info
        self.channels = channels
        self.expiresAt = expiresAt
    }
}

/// What a subscription token said.
package struct VerifiedSubscription: Sendable, Hashable {
    package var user: UserID
    package var channel: String
    /// Raw JSON that others see in presence; empty where there is none.
    package var info: Bytes
    /// When the subscription ends unless refreshed, in seconds since 1970; nil for never.
    package var expiresAt: Int64?

    package init(user: UserID, channel: String, info: Bytes = [], expiresAt: Int64? = nil) {
        self.user = user
        self.channel = channel
        self.info = info
        self.expiresAt = expiresAt
    }
}

package enum TokenFailure: Error, Sendable, Hashable {
    /// Malformed, forged, or of an unknown key or algorithm.
    case invalid
    /// Past its `exp`, or before its `nbf`.
    case expired
}

/// Checks tokens. The gateway implements it with JSON Web Tokens.
package protocol TokenVerifier: Sendable {
    /// A connection token that was verified before and is still good: answered without waiting.
    func cachedConnection(_ token: String) -> VerifiedToken?
    func verifyConnection(_ token: String) async throws(TokenFailure) -> VerifiedToken
    func verifySubscription(_ token: String) async throws(TokenFailure) -> VerifiedSubscription
}
