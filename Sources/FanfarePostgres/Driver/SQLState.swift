/// What each SQLSTATE asks for: a pure table (PostgreSQL 15, appendix A).
package enum SQLState {
    package enum Reaction: Hashable, Sendable, CaseIterable {
        /// The link is gone, or the server is going: connect again.
        case reconnect
        /// The transaction lost a race: the same transaction again, soon.
        case retryTransaction
        /// Something is in the way, or it took too long: the same later.
        case retryLater
        /// The server is short of something, or ill: leave it alone for a while.
        case backOff
        /// This server only reads: the primary is another one now.
        case findPrimary
        /// The data is at fault: never again with this row.
        case rejectData
        /// The statement, the schema or the rights are at fault: an operator has to look.
        case rejectStatement
    }

    /// - Parameter message: tells the two meanings of 0A000 apart.
    package static func reaction(to state: String, message: String = "") -> Reaction {
        switch state {
        case "40001", "40P01", "26000": return .retryTransaction
        // The plan of a prepared statement does not fit the changed table: prepared anew, it does.
        case "0A000" where message.contains("cached plan"): return .retryTransaction
        case "40003", "25P03", "57P01", "57P02", "57P03", "57P04", "57P05": return .reconnect
        case "40002": return .rejectData
        case "55P03", "55006", "57014": return .retryLater
        case "25006": return .findPrimary
        default: break
        }
        switch state.prefix(2) {
        case "08": return .reconnect
        case "40": return .retryTransaction
        case "53", "58", "XX", "57": return .backOff
        // P0: raised by a trigger or a function about a row.
        case "22", "23", "44", "P0": return .rejectData
        default: return .rejectStatement
        }
    }
}
