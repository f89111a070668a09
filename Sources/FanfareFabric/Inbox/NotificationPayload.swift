package import FanfareEngines
package import FanfareModel
package import FanfareProtocol

/// A notification as clients see it on `user:<id>`.
package enum NotificationPayload {
    /// Raw JSON: as `json`.
    package static func encode(_ entry: InboxEntry) -> Bytes { self.json(entry).serialize() }

    /// `{"type","id","event_id","data","created_at","read"}`, with `"expires_at"` and `"archived":true` where that is so.
    package static func json(_ entry: InboxEntry) -> JSON {
        var members: [JSON.Member] = [
            .init("type", .string(entry.type)), .init("id", .string(String(entry.sequence))),
            .init("event_id", .string(entry.event.description)), .init("data", .raw(entry.data)),
            .init("created_at", .string(entry.createdAt.description)), .init("read", .bool(entry.isRead)),
        ]
        if let expiresAt = entry.expiresAt { members.append(.init("expires_at", .string(expiresAt.description))) }
        if entry.isArchived { members.append(.init("archived", .bool(true))) }
        return .object(members)
    }

    /// Tells the user's other sessions what was marked:
    /// `{"type":"notifications.read"|"notifications.archived","ids"|"up_to","unread"}`.
    package static func encode(_ mark: InboxMark, _ which: InboxSelection, unread: Int) -> Bytes {
        let selection: JSON.Member =
            switch which {
            case .sequences(let sequences): .init("ids", .array(sequences.map { .string(String($0)) }))
            case .upTo(let sequence): .init("up_to", .string(String(sequence)))
            }
        let json = JSON.object([
            .init("type", .string("notifications.\(mark.rawValue)")), selection, .init("unread", .integer(unread)),
        ])
        return json.serialize()
    }
}
