package import FanfareCore
package import FanfareModel

/// What a caller wants done with one value.
package enum Change<Value: Sendable & Hashable>: Sendable, Hashable {
    case keep
    case remove
    case set(Value)
}

/// What a user wants to hear of, and when.
package struct UserPreferences: Sendable, Hashable {
    package struct MutedStreamer: Sendable, Hashable {
        package var streamer: UserID
        package var until: Timestamp

        package init(streamer: UserID, until: Timestamp) {
            self.streamer = streamer
            self.until = until
        }
    }

    /// The widest that holds for any streamer.
    package var notify: NotifyPreference
    /// In the future, or nil.
    package var muteUntil: Timestamp?
    package var quietHours: QuietHours?
    /// By name.
    package var mutedStreamers: [MutedStreamer]

    package init(
        notify: NotifyPreference = .all, muteUntil: Timestamp? = nil, quietHours: QuietHours? = nil,
        mutedStreamers: [MutedStreamer] = []
    ) {
        self.notify = notify
        self.muteUntil = muteUntil
        self.quietHours = quietHours
        self.mutedStreamers = mutedStreamers
    }
}

package struct PreferencesChange: Sendable, Hashable {
    package var user: UserID
    package var notify: NotifyPreference?
    package var muteUntil: Change<Timestamp>
    package var quietHours: Change<QuietHours>

    package init(
        user: UserID, notify: NotifyPreference? = nil, muteUntil: Change<Timestamp> = .keep,
        quietHours: Change<QuietHours> = .keep
    ) {
        self.user = user
        self.notify = notify
        self.muteUntil = muteUntil
        self.quietHours = quietHours
    }
}
