package import FanfareProtocol

/// Which events a command is about, as the server API takes it.
package struct EventQuery: Sendable, Hashable {
    /// The most that one request answers.
    package static let largestPage = 200
    package static let states = ["waiting", "running", "paused", "stopped", "cancelled", "done"]

    /// Nil: those that are not complete.
    package var state: String?
    /// Those that are complete, too.
    package var isForAll = false
    package var type: String?
    package var streamer: String?
    /// Ids below this one.
    package var before: Int64?

    package init() {}

    package var members: [JSON.Member] {
        var members: [JSON.Member] = []
        let texts = [
            ("state", self.state), ("type", self.type), ("streamer", self.streamer),
            ("before", self.before.map { String($0) }),
        ]
        for (name, text) in texts {
            if let text { members.append(.init(name, .string(text))) }
        }
        if self.isForAll { members.append(.init("all", true)) }
        return members
    }
}
