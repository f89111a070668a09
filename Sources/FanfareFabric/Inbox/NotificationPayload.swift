package import FanfareEngines
package import FanfareModel
import FanfareProtocol

/// A notification as clients see it on `user:<id>`.
package enum NotificationPayload {
    /// Raw JSON: `{"type","id","event_id","data","created_at","read"}`.
    package static func encode(_ entry: InboxEntry) -> Bytes {
        let json: JSON = [
            "type": .string(entry.type),
            "id": .string(String(entry.sequence)),
            "event_id": .string(entry.event.description),
            "data": .raw(entry.data),
            "created_at": .string(entry.createdAt.description),
            "read": .bool(entry.isRead),
        ]
        return json.serialize()
    }

    /// Tells the user's other sessions what was read: `{"type":"notifications.read","ids"|"up_to","unread"}`.
    package static func encodeRead(_ which: MarkRead, unread: Int) -> Bytes {
        let json: JSON =
            switch which {
            case .sequences(let sequences):
                [
                    "type": "notifications.read", "ids": .array(sequences.map { .string(String($0)) }),
                    "unread": .integer(unread),
                ]
            case .upTo(let sequence):
                ["type": "notifications.read", "up_to": .string(String(sequence)), "unread": .integer(unread)]
            }
        return json.serialize()
    }
}
