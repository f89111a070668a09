/// The methods of the server API, some of which clients call by rpc under their own identity.
package enum Method: String, Sendable, Hashable, CaseIterable {
    case publish
    case broadcast
    case subscribe
    case unsubscribe
    case disconnect
    case refresh
    case presence
    case presenceStats = "presence_stats"
    case history
    case historyRemove = "history_remove"
    case channels
    case info
    case batch
    case follow
    case unfollow
    case preferences
    case setPreferences = "set_preferences"
    case startStream = "start_stream"
    case stopStream = "stop_stream"
    case notify
    case scheduledEvents = "scheduled_events"
    case cancelScheduledEvent = "cancel_scheduled_event"
    case notifications
    case markRead = "mark_read"
    case archive
    case events
    case eventStatus = "event_status"
    case eventCounts = "event_counts"
    case pauseEvent = "pause_event"
    case resumeEvent = "resume_event"
    case cancelEvent = "cancel_event"
    case deadLetters = "dead_letters"
    case replayDeadLetters = "replay_dead_letters"
    case discardDeadLetters = "discard_dead_letters"
    case cluster
    case clusterSlots = "cluster_slots"
    case drain

    /// Whether clients call it by rpc.
    package var isForClients: Bool {
        switch self {
        case .publish, .follow, .unfollow, .preferences, .setPreferences, .startStream, .stopStream, .notifications,
            .markRead, .archive:
            true
        default: false
        }
    }
}
