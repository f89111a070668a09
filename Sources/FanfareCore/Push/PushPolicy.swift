package import FanfareModel

/// A time for which nothing is pushed, and nothing made up for.
package struct Mute: Sendable, Hashable {
    package var since: Timestamp
    /// Exclusive.
    package var until: Timestamp

    package init(since: Timestamp, until: Timestamp) {
        self.since = since
        self.until = until
    }

    func covers(_ time: Timestamp) -> Bool { self.since <= time && time < self.until }
}

/// What decides whether an event is pushed: everything that is known of it where that happens.
package struct PushedEvent: Sendable, Hashable {
    package var type: String
    /// Whose followers hear of it; nil where users were named.
    package var streamer: UserID?
    package var createdAt: Timestamp
    package var expiresAt: Timestamp?
    /// The store knows that it is not worth a push any more.
    package var isStale: Bool

    package init(
        type: String, streamer: UserID? = nil, createdAt: Timestamp, expiresAt: Timestamp? = nil, isStale: Bool = false
    ) {
        self.type = type
        self.streamer = streamer
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.isStale = isStale
    }
}

/// What a user's preferences say of pushes. What is in the inbox does not depend on it.
package struct PushPolicy: Sendable, Hashable {
    package enum Decision: Sendable, Hashable {
        case give
        /// Never: it stays in the inbox.
        case skip
        /// Later, together with all that comes until then.
        case wait(until: Timestamp)
    }

    /// Grows with every change; 0: the user never said anything.
    package var version: Int64
    /// For what comes from streamers; named users are meant in any case.
    package var level: NotifyPreference
    package var mute: Mute?
    package var mutedStreamers: [UserID: Mute]
    package var quietHours: QuietHours?
    package var timeZone: TimeZoneRules

    package init(
        version: Int64 = 0, level: NotifyPreference = .all, mute: Mute? = nil, mutedStreamers: [UserID: Mute] = [:],
        quietHours: QuietHours? = nil, timeZone: TimeZoneRules = .utc
    ) {
        self.version = version
        self.level = level
        self.mute = mute
        self.mutedStreamers = mutedStreamers
        self.quietHours = quietHours
        self.timeZone = timeZone
    }

    package func decide(_ event: PushedEvent, at now: Timestamp) -> Decision {
        if event.isStale || event.expiresAt.map({ $0 <= now }) ?? false { return .skip }
        if event.streamer != nil, !self.level.includes(type: event.type) { return .skip }
        if self.isMuted(event, at: now) { return .skip }
        return self.quietEnd(at: now).map { .wait(until: $0) } ?? .give
    }

    /// Whether the user is not to be told. What happened in a mute stays muted when its push comes late.
    package func isMuted(_ event: PushedEvent, at now: Timestamp) -> Bool {
        let ofStreamer = event.streamer.flatMap { self.mutedStreamers[$0] }
        return [self.mute, ofStreamer].contains { mute in
            mute.map { $0.covers(now) || $0.covers(event.createdAt) } ?? false
        }
    }

    /// When the quiet hours end that are now.
    package func quietEnd(at now: Timestamp) -> Timestamp? { self.quietHours?.end(at: now, self.timeZone) }
}
