import FanfareModel
import CoreMetrics
import Metrics

/// A number that grows.
package struct Count: Sendable {
    private let counter: Counter
    init(label: String, dimensions: [(String, String)] = []) {
        self.counter = Counter(label: label, dimensions: dimensions)
    }
    func increment(by amount: Int = 1) { self.counter.increment(by: amount) }
}

/// A number that goes up and down.
package struct Level: Sendable {
    private let meter: Meter
    init(label: String) { self.meter = Meter(label: label) }
    func increment(by amount: Double = 1) { self.meter.increment(by: amount) }
    func decrement(by amount: Double = 1) { self.meter.decrement(by: amount) }
    func record(_ value: Double) { self.meter.set(value) }
}

/// The fabric's instruments, made once: recording one costs no look-up.
package struct FabricMetrics: Sendable {
    let publications = Count(label: "fanfare_publications_total")
    let publicationsRefused = Count(label: "fanfare_publications_refused_total")
    let deliveries = Count(label: "fanfare_deliveries_total")
    let slotClaims = Count(label: "fanfare_slot_moves_total")
    let fenceRejections = Count(label: "fanfare_fence_rejections_total")
    let restores = Count(label: "fanfare_room_restores_total")
    let repairs = Count(label: "fanfare_gap_repairs_total")
    let insufficientState = Count(label: "fanfare_insufficient_state_total")
    let recoveries = Count(label: "fanfare_recoveries_total", dimensions: [("result", "full")])
    let recoveriesFailed = Count(label: "fanfare_recoveries_total", dimensions: [("result", "unrecoverable")])
    let ownedRooms = Level(label: "fanfare_owned_rooms")
    let roomsRefused = Count(label: "fanfare_owned_rooms_refused_total")
    let pushesOverrun = Count(label: "fanfare_session_overruns_total", dimensions: [("waiting", "notifications")])
    let publicationsOverrun = Count(label: "fanfare_session_overruns_total", dimensions: [("waiting", "publications")])
    let edges = Level(label: "fanfare_rooms")
    let commands = Count(label: "fanfare_commands_total")
    let refusedCommands = Count(label: "fanfare_commands_refused_total")
    let throttledCommands = Count(label: "fanfare_rate_limited_total", dimensions: [("limit", "session_commands")])
    let throttledKeys = Count(label: "fanfare_rate_limited_total", dimensions: [("limit", "idempotency_keys")])
    let idempotencyKeys = Level(label: "fanfare_idempotency_keys")
    let authenticationFailures = Count(label: "fanfare_auth_failures_total")
    let inboxPushes = Count(label: "fanfare_inbox_pushes_total")
    let inboxPushesSkipped = Count(label: "fanfare_inbox_pushes_skipped_total")
    let inboxesDeferred = Count(label: "fanfare_inboxes_deferred_total")
    let inboxRepairs = Count(label: "fanfare_inbox_repairs_total")
    let inboxPushesLost = Count(label: "fanfare_inbox_pushes_undelivered_total")
    let inboxChainBreaks = Count(label: "fanfare_inbox_chain_breaks_total")
    let inboxPushMessages = Count(label: "fanfare_inbox_push_messages_total")
    let inboxPushBytes = Count(label: "fanfare_inbox_push_bytes_total")
    let onlineUsers = Level(label: "fanfare_online_users")
    let onlineFullest = Level(label: "fanfare_online_users_fullest")
    let activityDropped = Count(label: "fanfare_activity_marks_dropped_total")
    let onlineChanges = Level(label: "fanfare_online_changes")
    let onlineRefused = Count(label: "fanfare_online_users_refused_total")
    let onlineAnnouncements = Count(label: "fanfare_online_announcements_total")
    let onlineOverflows = Count(label: "fanfare_online_announcements_overflowed_total")
    let onlineSnapshots = Count(label: "fanfare_online_snapshots_wanted_total")
    let onlineRepairs = Count(label: "fanfare_online_repairs_total")
    let fanoutRows = Count(label: "fanfare_fanout_rows_total")
    let fanoutFailures = Count(label: "fanfare_fanout_failures_total")
    let viewNumber = Level(label: "fanfare_cluster_view")
    let members = Level(label: "fanfare_cluster_members")
    let slotsOwned = Level(label: "fanfare_slots_owned")
    private let sessions = Level(label: "fanfare_sessions")
    private let opened = Count(label: "fanfare_sessions_opened_total")
    private let disconnects: [UInt16: Count]
    private let otherDisconnects = Count(label: "fanfare_disconnects_total", dimensions: [("code", "other")])

    package init() {
        let known: [Disconnect] = [
            .shutdown, .serverError, .expired, .subscriptionExpired, .slow, .writeError, .insufficientState,
            .forceReconnect, .noPong, .tooManyRequests, .invalidToken, .badRequest, .stale, .forced, .connectionLimit,
            .channelLimit, .permissionDenied, .notAvailable, .tooManyErrors,
        ]
        self.disconnects = known.reduce(into: [:]) { counters, disconnect in
            counters[disconnect.code] = Count(
                label: "fanfare_disconnects_total", dimensions: [("code", "\(disconnect.code)")])
        }
    }

    func sessionOpened() {
        self.opened.increment()
        self.sessions.increment()
    }

    func sessionClosed() { self.sessions.decrement() }

    /// The server ended a connection.
    func disconnected(_ disconnect: Disconnect) {
        (self.disconnects[disconnect.code] ?? self.otherDisconnects).increment()
    }
}
