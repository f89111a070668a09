package import FanfareModel

/// Which events an operator wants to see, newest first.
package struct EventFilter: Sendable, Hashable {
    /// Nil: those that are not complete, whatever their state.
    package var states: Set<EventState>?
    package var type: String?
    /// Whose followers it is for.
    package var streamer: UserID?
    /// Ids below this one.
    package var before: EventID?
    /// 1–200.
    package var limit: Int

    package init(
        states: Set<EventState>? = nil, type: String? = nil, streamer: UserID? = nil, before: EventID? = nil,
        limit: Int = 50
    ) {
        self.states = states
        self.type = type
        self.streamer = streamer
        self.before = before
        self.limit = limit
    }
}

package struct EventPage: Sendable, Hashable {
    /// Newest first.
    package var events: [EventStatus]
    /// Where to go on: there may be more below this id, even where a page is not full, for one look searches so many
    /// events and no more. Nil at the end.
    package var next: EventID?

    package init(events: [EventStatus], next: EventID?) {
        self.events = events
        self.next = next
    }
}
