package import FanfareEngines

/// What PostgreSQL, libpq or the link said. Messages are the server's primary ones, without details: details show rows.
package struct PostgresError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Kind: Hashable, Sendable {
        /// The server answered with an error of this SQLSTATE.
        case server(String)
        /// No connection could be made.
        case connect
        /// The link broke while a statement was under way.
        case linkLost
        /// No answer within the deadline of the client; the link was cut.
        case noAnswer
        /// The server's answer is not what this program's statement asks for.
        case unexpectedAnswer
    }

    package let kind: Kind
    package let message: String
    package let constraint: String?
    /// The statement may have taken effect all the same: it committed by itself, or it was the COMMIT.
    package internal(set) var mayHaveCommitted: Bool

    package init(_ kind: Kind, _ message: String, constraint: String? = nil, mayHaveCommitted: Bool = false) {
        self.kind = kind
        self.message = message
        self.constraint = constraint
        self.mayHaveCommitted = mayHaveCommitted
    }

    package var sqlState: String? { if case .server(let state) = self.kind { state } else { nil } }

    /// What to do about it.
    package var reaction: SQLState.Reaction {
        switch self.kind {
        case .server(let state): SQLState.reaction(to: state, message: self.message)
        case .connect, .linkLost, .noAnswer: .reconnect
        case .unexpectedAnswer: .rejectStatement
        }
    }

    package var description: String {
        let what = self.sqlState.map { "SQLSTATE \($0): " } ?? ""
        return what + self.message
    }

    /// As the callers of the store are told.
    package var engineError: EngineError {
        let code: EngineError.Code =
            switch self.reaction {
            case .reconnect: self.mayHaveCommitted ? .unknownOutcome : .unavailable
            case .retryTransaction, .retryLater, .backOff, .findPrimary: .unavailable
            case .rejectData, .rejectStatement: .rejected
            }
        return EngineError(code, self.message, sqlState: self.sqlState)
    }
}
