/// One numbered step of the schema. A step that was released never changes.
package struct Migration: Sendable {
    package let number: Int
    package let name: String
    /// Statements, run in one transaction.
    let sql: String

    package init(number: Int, name: String, sql: String) {
        self.number = number
        self.name = name
        self.sql = sql
    }
}

package struct AppliedMigration: Sendable, Hashable {
    package let number: Int
    package let name: String
}

/// The schema of this program.
package enum Schema {
    package static let migrations: [Migration] = [
        .tables, .inbox, .deadLetters, .fanout, .preferences, .scheduled, .broadcasts, .held, .ahead, .eventLog,
        .inboxPartitions,
    ]
}
