/// Why an engine (broker or store) did not do what it was asked.
package struct EngineError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Code: Hashable, Sendable {
        /// Out of reach, or its breaker is open: nothing was done. Retry later.
        case unavailable
        /// The link broke or time ran out while the request was under way: it may or may not have been done.
        case unknownOutcome
        /// The bounded queue before the engine is full: nothing was done. Retry later.
        case overloaded
        /// Another owner holds the slot, shard or name: nothing was done, and this owner never may again as what it is now.
        case fenced
        /// The engine refused the request for good (bad data, schema, rights). Do not retry.
        case rejected
    }

    package let code: Code
    /// For logs; no payloads.
    package let message: String
    /// PostgreSQL's SQLSTATE, where there is one.
    package let sqlState: String?
    package let retryAfter: Duration?

    package init(_ code: Code, _ message: String, sqlState: String? = nil, retryAfter: Duration? = nil) {
        self.code = code
        self.message = message
        self.sqlState = sqlState
        self.retryAfter = retryAfter
    }

    package var isRetryable: Bool {
        switch self.code {
        case .unavailable, .unknownOutcome, .overloaded: true
        case .fenced, .rejected: false
        }
    }

    package var description: String {
        "\(self.code): \(self.message)" + (self.sqlState.map { " (SQLSTATE \($0))" } ?? "")
    }
}
