package import FanfareProtocol

/// Which dead letters a command is about, as the server API takes it.
package struct DeadLetterQuery: Sendable, Hashable {
    package var event: String?
    package var kind: String?
    package var endpoint: String?
    package var errorClass: String?
    package var sqlState: String?
    package var streamer: String?
    package var user: String?
    package var olderThan: Duration?
    package var newerThan: Duration?
    /// Ids above this one.
    package var after: Int64?
    /// Ids up to this one.
    package var upTo: Int64?

    package init() {}

    package var members: [JSON.Member] {
        let texts = [
            ("event_id", self.event), ("kind", self.kind), ("endpoint", self.endpoint),
            ("error_class", self.errorClass), ("sqlstate", self.sqlState), ("streamer", self.streamer),
            ("user", self.user), ("after", self.after.map { String($0) }), ("up_to", self.upTo.map { String($0) }),
        ]
        var members: [JSON.Member] = []
        for (name, text) in texts {
            if let text { members.append(.init(name, .string(text))) }
        }
        let ages = [("older_than_s", self.olderThan), ("newer_than_s", self.newerThan)]
        for (name, age) in ages {
            if let age { members.append(.init(name, .integer(age.components.seconds))) }
        }
        return members
    }

    /// It means all there are, but for a range of ids.
    package var isForAll: Bool {
        var other = DeadLetterQuery()
        other.after = self.after
        other.upTo = self.upTo
        return self == other
    }

    /// `90s`, `15m`, `2h`, `7d`.
    package static func age(_ text: String) throws(CommandError) -> Duration {
        guard let age = Quantity.duration(text), age >= .zero else {
            throw CommandError("'\(text.prefix(40))' is no time such as 90s, 15m, 2h or 7d")
        }
        return age
    }
}
