import FanfareCore

/// What is asked of the database, by what it needs to succeed: each class has a circuit breaker of its own, so that a
/// database that only reads, or that has no room to write, still serves the readers.
package enum WorkClass: String, Sendable, Hashable, CaseIterable {
    /// Statements that a user waits for and that change nothing.
    case read
    /// Transactions that a user waits for.
    case write
    /// The fan-out and what looks after the store.
    case fanout

    /// What a probe asks, to learn whether such work succeeds again.
    func probe(_ session: PostgresSession) throws {
        switch self {
        case .read: _ = try session.query("SELECT 1")
        case .write, .fanout:
            // A write like any other: it needs a primary, and room for the log.
            try session.transaction { _ = try session.query("UPDATE instance SET epoch = epoch") }
        }
    }
}

/// The breakers of a pool's classes.
struct ClassBreakers: Sendable {
    let classes: [WorkClass]
    private var breakers: [WorkClass: CircuitBreaker]

    init(_ classes: [WorkClass], _ configuration: CircuitBreaker.Configuration) {
        self.classes = classes
        self.breakers = Dictionary(uniqueKeysWithValues: classes.map { ($0, CircuitBreaker(configuration)) })
    }

    subscript(_ work: WorkClass) -> CircuitBreaker {
        get { self.breakers[work] ?? CircuitBreaker() }
        set { self.breakers[work] = newValue }
    }

    func state(_ work: WorkClass) -> CircuitBreaker.State { self[work].state }

    var areClosed: Bool { self.classes.allSatisfy { self.state($0) == .closed } }
    var areOpen: Bool { self.classes.allSatisfy { self.state($0) != .closed } }
}
