/// What a client or a caller of the server API is told when its request could not be done: the codes of the centrifuge
/// protocol below 1000, Fanfare's own from 1000.
package struct FanfareError: Error, Hashable, Sendable, CustomStringConvertible {
    package let code: UInt32
    /// What was wrong with what was sent; never what is inside.
    package let message: String
    /// Whether the same request may succeed later.
    package let isTemporary: Bool
    /// When a retry makes sense, in milliseconds from now; nil where nothing is known.
    package var retryAfterMilliseconds: Int64?

    package init(code: UInt32, message: String, isTemporary: Bool = false, retryAfterMilliseconds: Int64? = nil) {
        self.code = code
        self.message = message
        self.isTemporary = isTemporary
        self.retryAfterMilliseconds = retryAfterMilliseconds
    }

    package var description: String { "\(self.code): \(self.message)" }

    package static var `internal`: Self { .init(code: 100, message: "internal server error", isTemporary: true) }
    package static var unauthorized: Self { .init(code: 101, message: "unauthorized") }
    package static var unknownChannel: Self { .init(code: 102, message: "unknown channel") }
    package static var permissionDenied: Self { .init(code: 103, message: "permission denied") }
    package static var methodNotFound: Self { .init(code: 104, message: "method not found") }
    package static var alreadySubscribed: Self { .init(code: 105, message: "already subscribed") }
    package static var limitExceeded: Self { .init(code: 106, message: "limit exceeded") }
    package static func limitExceeded(_ what: String) -> Self { .init(code: 106, message: "limit exceeded: \(what)") }
    package static var badRequest: Self { .init(code: 107, message: "bad request") }
    package static func badRequest(_ what: String) -> Self { .init(code: 107, message: "bad request: \(what)") }
    package static var notAvailable: Self { .init(code: 108, message: "not available") }
    package static func notAvailable(_ what: String) -> Self { .init(code: 108, message: "not available: \(what)") }
    package static var tokenExpired: Self { .init(code: 109, message: "token expired") }
    package static var expired: Self { .init(code: 110, message: "expired") }
    package static var tooManyRequests: Self { .init(code: 111, message: "too many requests", isTemporary: true) }
    package static var unrecoverablePosition: Self { .init(code: 112, message: "unrecoverable position") }
    package static var alreadyLive: Self { .init(code: 1001, message: "already live") }
    package static var notLive: Self { .init(code: 1002, message: "not live") }
    package static func unknownUser(_ who: String) -> Self { .init(code: 1003, message: "unknown user: \(who)") }
    package static var databaseUnavailable: Self {
        .init(code: 1004, message: "database unavailable", isTemporary: true)
    }
    package static var brokerUnavailable: Self { .init(code: 1005, message: "broker unavailable", isTemporary: true) }
    package static var duplicateWithAnotherContent: Self {
        .init(code: 1006, message: "duplicate with another content")
    }
    package static var banned: Self { .init(code: 1007, message: "user is banned or muted") }
    package static var slowMode: Self { .init(code: 1008, message: "slow mode", isTemporary: true) }
}

/// Why the server ends a connection: the code and reason of the WebSocket close frame. Clients reconnect unless the code
/// is 3500–3999 or 4500–4999.
package struct Disconnect: Error, Hashable, Sendable {
    package let code: UInt16
    /// At most 123 bytes of UTF-8 (RFC 6455, 5.5), and never valid JSON: SDKs try to parse it.
    package let reason: String

    package init(code: UInt16, reason: String) {
        self.code = code
        self.reason = reason
    }

    package static var connectionClosed: Self { .init(code: 3000, reason: "connection closed") }
    package static var shutdown: Self { .init(code: 3001, reason: "shutdown") }
    package static var serverError: Self { .init(code: 3004, reason: "internal server error") }
    package static var expired: Self { .init(code: 3005, reason: "connection expired") }
    package static var subscriptionExpired: Self { .init(code: 3006, reason: "subscription expired") }
    package static var slow: Self { .init(code: 3008, reason: "slow") }
    package static var writeError: Self { .init(code: 3009, reason: "write error") }
    package static var insufficientState: Self { .init(code: 3010, reason: "insufficient state") }
    package static var forceReconnect: Self { .init(code: 3011, reason: "force reconnect") }
    package static var noPong: Self { .init(code: 3012, reason: "no pong") }
    package static var tooManyRequests: Self { .init(code: 3013, reason: "too many requests") }
    package static var invalidToken: Self { .init(code: 3500, reason: "invalid token") }
    package static var badRequest: Self { .init(code: 3501, reason: "bad request") }
    package static var stale: Self { .init(code: 3502, reason: "stale") }
    package static var forced: Self { .init(code: 3503, reason: "force disconnect") }
    package static var connectionLimit: Self { .init(code: 3504, reason: "connection limit") }
    package static var channelLimit: Self { .init(code: 3505, reason: "channel limit") }
    package static var permissionDenied: Self { .init(code: 3507, reason: "permission denied") }
    package static var notAvailable: Self { .init(code: 3508, reason: "not available") }
    package static var tooManyErrors: Self { .init(code: 3509, reason: "too many errors") }

    /// Whether an SDK that is sent this code comes back by itself.
    package var clientReconnects: Bool { !(3500...3999).contains(self.code) && !(4500...4999).contains(self.code) }
}

/// Why the server ends one subscription. Codes from 2500 make the client subscribe again.
package struct Unsubscription: Hashable, Sendable {
    package let code: UInt32
    package let reason: String

    package static var server: Self { .init(code: 2000, reason: "server unsubscribe") }
    package static var insufficientState: Self { .init(code: 2500, reason: "insufficient state") }
    package static var expired: Self { .init(code: 2501, reason: "subscription expired") }

    package init(code: UInt32, reason: String) {
        self.code = code
        self.reason = reason
    }
}
