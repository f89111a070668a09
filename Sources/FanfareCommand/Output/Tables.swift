package import FanfareProtocol

/// What commands show of the server API's results.
package enum Tables {
    package static func cluster(_ status: JSON) -> [String] {
        var table = TextTable([
            ("node", .left), ("state", .left), ("slots", .right), ("sessions", .right), ("rooms", .right),
            ("up", .right), ("version", .left),
        ])
        for node in status["nodes"]?.arrayValue ?? [] {
            table.add([
                self.text(node["name"]), self.text(node["state"]), self.text(node["slots"]),
                self.text(node["sessions"]), self.text(node["rooms"]),
                node["uptime_s"]?.integerValue.map { Readable.duration(seconds: $0) } ?? "-",
                self.text(node["version"]),
            ])
        }
        return ["view \(self.text(status["view"]))"] + table.lines
    }

    package static func slots(_ result: JSON) -> [String] {
        if let channel = result["channel"] {
            return [
                "\(self.text(channel["channel"])) is in slot \(self.text(channel["slot"])), owned by \(self.text(channel["node"]))"
            ]
        }
        var table = TextTable([("node", .left), ("slots", .right), ("which", .left)])
        for node in result["nodes"]?.arrayValue ?? [] {
            let slots = (node["slots"]?.arrayValue ?? []).prefix(16).map { self.text($0) }
            let isAll = slots.count == (node["slots"]?.arrayValue ?? []).count
            table.add([
                self.text(node["name"]), self.text(node["count"]), slots.joined(separator: " ") + (isAll ? "" : " …"),
            ])
        }
        return ["view \(self.text(result["view"]))"] + table.lines
    }

    package static func deadLetters(_ letters: [JSON]) -> [String] {
        guard !letters.isEmpty else { return ["no dead letters"] }
        var table = TextTable([
            ("id", .right), ("kind", .left), ("endpoint", .left), ("event", .right), ("order key", .left),
            ("class", .left), ("sqlstate", .left), ("attempts", .right), ("last failed", .left), ("state", .left),
            ("cause", .left),
        ])
        for letter in letters {
            table.add([
                self.text(letter["id"]), self.text(letter["kind"]), self.text(letter["endpoint"]),
                self.text(letter["event_id"]), self.text(letter["order_key"]), self.text(letter["error_class"]),
                self.text(letter["sqlstate"]), self.text(letter["attempts"]), self.text(letter["last_failed_at"]),
                self.text(letter["state"]), String(self.text(letter["cause"]).prefix(60)),
            ])
        }
        return table.lines
    }

    /// One dead letter with all of its fields.
    package static func deadLetter(_ letter: JSON) -> [String] {
        let members = letter.objectValue ?? []
        let width = members.map(\.key.count).max() ?? 0
        return members.map { member in
            let name = member.key + String(repeating: " ", count: width - member.key.count)
            return "\(name)  \(self.text(member.value))"
        }
    }

    static func text(_ value: JSON?) -> String {
        guard let value, !value.isNull else { return "-" }
        return value.stringValue ?? String(decoding: value.serialize(), as: UTF8.self)
    }
}
