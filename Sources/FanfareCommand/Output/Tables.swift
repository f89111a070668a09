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
    package static func deadLetter(_ letter: JSON) -> [String] { self.fields(letter) }

    package static func events(_ events: [JSON]) -> [String] {
        guard !events.isEmpty else { return ["no events"] }
        var table = TextTable([
            ("id", .right), ("type", .left), ("streamer", .left), ("state", .left), ("accepted", .left),
            ("done", .right), ("total", .right), ("per s", .right), ("left", .right), ("online", .right),
            ("dead", .right), ("priority", .right),
        ])
        for event in events {
            let isOver = EventProgress.isOver(event)
            table.add([
                self.text(event["event_id"]), self.text(event["type"]), self.text(event["streamer"]),
                self.text(event["state"]), self.text(event["accepted_at"]), self.text(event["done"]),
                self.text(event["total"]), self.text(event["rate_per_s"]),
                isOver ? "-" : event["eta_s"]?.integerValue.map { Readable.duration(seconds: $0) } ?? "-",
                self.text(event["delivered_online"]), self.text(event["dead_letters"]),
                self.text(event["priority"]),
            ])
        }
        return table.lines
    }

    /// One event with all that is known of its fan-out.
    package static func event(_ event: JSON) -> [String] {
        self.fields(
            .object(
                (event.objectValue ?? []).map { member in
                    guard member.key == "shards", let total = member.value["total"], let done = member.value["done"]
                    else { return member }
                    return JSON.Member("shards", .string("\(self.text(done)) of \(self.text(total)) done"))
                }))
    }

    package static func scheduledEvents(_ events: [JSON]) -> [String] {
        guard !events.isEmpty else { return ["no scheduled events"] }
        var table = TextTable([
            ("id", .right), ("type", .left), ("for", .left), ("at", .left), ("state", .left), ("attempts", .right),
            ("event", .right),
        ])
        for event in events {
            let users = event["users"]?.integerValue.map { "\($0) users" } ?? "-"
            table.add([
                self.text(event["scheduled_id"]), self.text(event["type"]),
                event["followers_of"]?.stringValue.map { "followers of \($0)" } ?? users, self.text(event["at"]),
                self.text(event["state"]), self.text(event["attempts"]), self.text(event["event_id"]),
            ])
        }
        return table.lines
    }

    private static func fields(_ object: JSON) -> [String] {
        let members = object.objectValue ?? []
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
