package import FanfareEngines
package import FanfareModel
import FanfareProtocol

/// The durable lane: what PostgreSQL keeps. Without a database every call throws 1004.
extension Node {
    func durable() throws(FanfareError) -> any Store {
        guard let store = self.store else { throw .databaseUnavailable }
        return store
    }

    package func startStream(_ start: StreamStart) async throws(FanfareError) -> StartedStream {
        let started = try await self.durable().startStream(start)
        if !started.isDuplicate {
            await self.fanout?.eventAccepted()
            await self.announce(started.stream)
        }
        return started
    }

    package func stopStream(_ which: StreamReference) async throws(FanfareError) -> StreamRecord {
        let stopped = try await self.durable().stopStream(which)
        await self.announce(stopped)
        return stopped
    }

    /// Tells the stream's channel. The stream's state is in the store: where the broker is away the channel catches up with
    /// the next change.
    private func announce(_ stream: StreamRecord) async {
        guard let channel = try? Channel("stream:\(stream.id)") else { return }
        let status: JSON = [
            "stream_id": .string(stream.id), "streamer": .string(stream.streamer.rawValue),
            "title": .string(stream.title), "status": .string(stream.isLive ? "live" : "ended"),
            "started_at": .string(stream.startedAt.description),
        ]
        _ = try? await self.publish(PublishOrder(channel: channel, data: status.serialize()), by: .server)
    }

    package func notify(_ notification: NotificationRequest) async throws(FanfareError) -> EventID {
        let event = try await self.durable().notify(notification)
        await self.fanout?.eventAccepted()
        return event
    }

    package func schedule(
        _ notification: NotificationRequest, at time: Timestamp
    ) async throws(FanfareError) -> Int64 {
        try await self.durable().schedule(notification, at: time)
    }

    package func scheduledEvents(_ filter: ScheduledEventFilter) async throws(FanfareError) -> [ScheduledEvent] {
        try await self.durable().scheduledEvents(filter)
    }

    package func cancelScheduled(_ id: Int64) async throws(FanfareError) {
        try await self.durable().cancelScheduled(id)
    }

    package func eventStatus(_ event: EventID) async throws(FanfareError) -> EventStatus {
        try await self.durable().eventStatus(event)
    }

    package func events(_ filter: EventFilter) async throws(FanfareError) -> EventPage {
        try await self.durable().events(filter)
    }

    package func eventCounts(of streamer: UserID, type: String?) async throws(FanfareError) -> [EventCount] {
        try await self.durable().eventCounts(of: streamer, type: type)
    }

    package func control(_ event: EventID, _ control: EventControl) async throws(FanfareError) -> EventState {
        let state = try await self.durable().control(event, control)
        await self.fanout?.eventAccepted()
        return state
    }

    package func notifications(_ query: InboxQuery) async throws(FanfareError) -> InboxPage {
        try await self.durable().notifications(query)
    }

    package func mark(
        _ user: UserID, _ mark: InboxMark, _ which: InboxSelection, by client: ClientID?
    ) async throws(FanfareError) -> MarkResult {
        let result = try await self.durable().mark(user, mark, which)
        if result.changed > 0 {
            let payload = NotificationPayload.encode(mark, which, unread: result.unread)
            self.peers.tellAll(.notice(InboxPush(sequence: 0, payload: payload), user: user, except: client))
        }
        return result
    }

    /// Who is named by a token is known from then on.
    package func identify(_ user: UserID) async throws(FanfareError) -> UserKey? {
        guard let store = self.store else { return nil }
        if let key = self.knownUsers.key(of: user) { return key }
        guard let key = try await store.ensureUsers([user])[user] else { throw .internal }
        self.knownUsers.insert(user, key)
        return key
    }

    package func inbox(of user: UserID, after sequence: UInt64?) async throws(FanfareError) -> InboxTail {
        // Without a database the channel carries what is pushed now, and nothing was missed.
        guard let store = self.store else { return InboxTail(entries: [], top: sequence ?? 0, isTruncated: false) }
        _ = try await self.identify(user)
        return try await store.inbox(of: user, after: sequence, limit: self.configuration.session.inboxRecovery)
    }

    package func deadLetters(_ filter: DeadLetterFilter) async throws(FanfareError) -> [DeadLetter] {
        try await self.durable().deadLetters(filter)
    }

    package func countDeadLetters(_ filter: DeadLetterFilter) async throws(FanfareError) -> DeadLetterCount {
        try await self.durable().countDeadLetters(filter)
    }

    package func settleDeadLetters(
        _ which: DeadLetterSelection, as settlement: DeadLetterSettlement, isTrial: Bool
    ) async throws(FanfareError) -> Int {
        let count = try await self.durable().settleDeadLetters(which, as: settlement, isTrial: isTrial)
        if count > 0, settlement == .replay, !isTrial { await self.fanout?.eventAccepted() }
        return count
    }
}
