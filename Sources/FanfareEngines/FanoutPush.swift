package import FanfareModel

/// One event on its way to those of its recipients who are online: their inbox rows are committed.
package struct FanoutPush: Sendable, Hashable {
    package struct Recipient: Sendable, Hashable {
        package var user: UserKey
        /// The sequence of the event in this user's inbox: the offset of the push on `user:<id>`.
        package var sequence: UInt64

        package init(_ user: UserKey, sequence: UInt64) {
            self.user = user
            self.sequence = sequence
        }
    }

    package var event: EventID
    package var type: String
    /// Raw JSON.
    package var data: Bytes
    package var createdAt: Timestamp
    /// Whose followers hear of it; nil where users were named.
    package var streamer: UserID?
    /// When it stops being worth a push.
    package var expiresAt: Timestamp?
    /// It stopped being so before: sessions pass it over.
    package var isStale: Bool
    package var recipients: [Recipient]

    package init(
        event: EventID, type: String, data: Bytes, createdAt: Timestamp, streamer: UserID? = nil,
        expiresAt: Timestamp? = nil, isStale: Bool = false, recipients: [Recipient]
    ) {
        self.event = event
        self.type = type
        self.data = data
        self.createdAt = createdAt
        self.streamer = streamer
        self.expiresAt = expiresAt
        self.isStale = isStale
        self.recipients = recipients
    }
}
