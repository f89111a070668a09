internal import FanfareEngines
internal import FanfareModel
internal import FanfareProtocol

extension MethodRouter {
    private static let maximumRecipients = 10_000
    private static let maximumPage = 200
    private static let maximumMarked = 1000
    private static let maximumTitle = 500
    private static let maximumTags = 20
    private static let maximumTag = 64
    private static let maximumType = 64
    private static let plainTypes: Set<String> = ["stream.live", "follow", "mention", "raid", "subscription"]

    // MARK: Streams

    func startStream(_ parameters: Parameters, by caller: Caller) async throws(FanfareError) -> JSON {
        let tags = try parameters.strings("tags") ?? []
        guard tags.count <= MethodRouter.maximumTags, tags.allSatisfy({ $0.utf8.count <= MethodRouter.maximumTag })
        else {
            throw .badRequest(
                "'tags' has more than \(MethodRouter.maximumTags) elements, or one of more than "
                    + "\(MethodRouter.maximumTag) bytes")
        }
        let started = try await self.operations.startStream(
            StreamStart(
                streamer: try self.subject("streamer", parameters, by: caller),
                title: try parameters.string("title", upTo: MethodRouter.maximumTitle), tags: tags,
                idempotencyKey: try parameters.idempotencyKey()))
        return [
            "stream": MethodRouter.stream(started.stream), "event_id": .string(started.event.description),
        ]
    }

    func stopStream(_ parameters: Parameters, by caller: Caller) async throws(FanfareError) -> JSON {
        let id = try parameters.string("stream").flatMap { $0.isEmpty ? nil : $0 }
        guard (id?.utf8.count ?? 0) <= 64 else { throw .badRequest("'stream' is no stream id") }
        let which: StreamReference
        if caller == .server, let id {
            which = .id(id)
        } else {
            let streamer = try self.subject("streamer", parameters, by: caller)
            which = id.map { .idOfStreamer($0, streamer) } ?? .streamer(streamer)
        }
        return ["stream": MethodRouter.stream(try await self.operations.stopStream(which))]
    }

    // MARK: Events

    func notify(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        let notification = NotificationRequest(
            audience: try MethodRouter.audience(parameters), type: try MethodRouter.notificationType(parameters),
            data: try parameters.data("data"), idempotencyKey: try parameters.idempotencyKey(),
            timeToLive: try self.timeToLive(parameters))
        if let text = try parameters.string("at") {
            guard let time = Timestamp(rfc3339: text) else {
                throw .badRequest("'at' is no time like 2026-01-31T12:00:00Z")
            }
            let id = try await self.operations.schedule(notification, at: time)
            return ["scheduled_id": .string(String(id)), "at": .string(time.description)]
        }
        let event = try await self.operations.notify(notification)
        return ["event_id": .string(event.description)]
    }

    private func timeToLive(_ parameters: Parameters) throws(FanfareError) -> Int? {
        guard let seconds = try parameters.integer("ttl_s") else { return nil }
        guard (1...Int64(self.maximumTimeToLive)).contains(seconds) else {
            if seconds > 0 { Count(label: "fanfare_limits_reached_total", dimensions: [("limit", "ttl")]).increment() }
            throw .badRequest("'ttl_s' is 1 to \(self.maximumTimeToLive)")
        }
        return Int(seconds)
    }

    private static func audience(_ parameters: Parameters) throws(FanfareError) -> NotificationRequest.Audience {
        let names = try parameters.strings("users")
        guard parameters.raw("followers_of") == nil || names == nil else {
            throw .badRequest("'users' and 'followers_of' exclude each other")
        }
        guard let names else { return .followers(of: try parameters.user("followers_of")) }
        guard !names.isEmpty else { throw .badRequest("'users' is empty") }
        guard names.count <= MethodRouter.maximumRecipients else {
            throw .limitExceeded("'users' has more than \(MethodRouter.maximumRecipients) elements")
        }
        var users: [UserID] = []
        var seen: Set<UserID> = []
        for name in names {
            guard let user = UserID(name) else { throw .badRequest("'users' has an illegal user id") }
            if seen.insert(user).inserted { users.append(user) }
        }
        return .users(users)
    }

    private static func notificationType(_ parameters: Parameters) throws(FanfareError) -> String {
        let type = try parameters.string("type", upTo: MethodRouter.maximumType)
        if MethodRouter.plainTypes.contains(type) { return type }
        guard type.hasPrefix("custom."), UserID.isValid(type.utf8.dropFirst("custom.".utf8.count)) else {
            throw .badRequest("'type' is none of the notification types and does not begin with 'custom.'")
        }
        return type
    }

    func scheduledEvents(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        let events = try await self.operations.scheduledEvents(
            ScheduledEventFilter(
                includesSettled: try parameters.bool("settled"), after: try parameters.identifier("after") ?? 0,
                limit: try parameters.limit(default: 100, maximum: 1000)))
        return ["scheduled_events": .array(events.map { MethodRouter.scheduledEvent($0) })]
    }

    func cancelScheduledEvent(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        guard let id = try parameters.identifier("scheduled_id") else { throw .badRequest("'scheduled_id' is missing") }
        try await self.operations.cancelScheduled(id)
        return [:]
    }

    private static func scheduledEvent(_ event: ScheduledEvent) -> JSON {
        var members: [JSON.Member] = [
            .init("scheduled_id", .string(String(event.id))), .init("type", .string(event.type)),
            .init("at", .string(event.dueAt.description)), .init("created_at", .string(event.createdAt.description)),
            .init("state", .string(event.state.rawValue)), .init("attempts", .integer(event.attempts)),
        ]
        if let streamer = event.streamer {
            members.append(.init("followers_of", .string(streamer.rawValue)))
        } else if event.state == .waiting {
            members.append(.init("users", .integer(event.users)))
        }
        if let event = event.event { members.append(.init("event_id", .string(event.description))) }
        return .object(members)
    }

    func eventCounts(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        let streamer = try parameters.user("streamer")
        let type = try parameters.string("type")
        guard (type?.utf8.count ?? 0) <= MethodRouter.maximumType else {
            throw .badRequest("'type' has more than \(MethodRouter.maximumType) bytes")
        }
        let counts = try await self.operations.eventCounts(of: streamer, type: type)
        return [
            "counts": .array(counts.map { ["type": .string($0.type), "count": .integer(Int($0.count))] }),
            "total": .integer(Int(counts.reduce(0) { $0 + $1.count })),
        ]
    }

    // MARK: Inbox

    func notifications(_ parameters: Parameters, by caller: Caller) async throws(FanfareError) -> JSON {
        let page = try await self.operations.notifications(
            InboxQuery(
                user: try self.subject("user", parameters, by: caller),
                limit: try parameters.limit(default: 50, maximum: MethodRouter.maximumPage),
                before: try parameters.identifier("before").map { UInt64($0) },
                unreadOnly: try parameters.bool("unread"), isArchived: try parameters.bool("archived")))
        return [
            "notifications": .array(page.entries.map { NotificationPayload.json($0) }),
            "unread": .integer(page.unread),
        ]
    }

    func mark(
        _ mark: InboxMark, _ parameters: Parameters, by caller: Caller
    ) async throws(FanfareError) -> JSON {
        let user = try self.subject("user", parameters, by: caller)
        let ids = try parameters.identifiers("ids", upTo: MethodRouter.maximumMarked)
        let upTo = try parameters.identifier("up_to")
        let which: InboxSelection
        switch (ids, upTo) {
        case (.some(let ids), nil): which = .sequences(ids.map { UInt64($0) })
        case (nil, .some(let upTo)): which = .upTo(UInt64(upTo))
        default: throw .badRequest("give either 'ids' or 'up_to'")
        }
        let result = try await self.operations.mark(user, mark, which, by: caller.info?.client)
        return ["unread": .integer(result.unread)]
    }

    // MARK: JSON

    static func stream(_ stream: StreamRecord) -> JSON {
        var members: [JSON.Member] = [
            .init("id", .string(stream.id)), .init("streamer", .string(stream.streamer.rawValue)),
            .init("title", .string(stream.title)), .init("status", stream.isLive ? "live" : "ended"),
            .init("started_at", .string(stream.startedAt.description)),
        ]
        if let endedAt = stream.endedAt { members.append(.init("ended_at", .string(endedAt.description))) }
        members.append(.init("tags", .array(stream.tags.map { .string($0) })))
        return .object(members)
    }
}
