internal import FanfareEngines
internal import FanfareModel
internal import FanfareProtocol

/// What operators see and do of events that are under way.
extension MethodRouter {
    private static let maximumEvents = 200
    private static let maximumEventType = 64

    func control(_ control: EventControl, _ parameters: Parameters) async throws(FanfareError) -> JSON {
        let event = try MethodRouter.event(parameters)
        let state = try await self.operations.control(event, control)
        return ["event_id": .string(event.description), "state": .string(state.rawValue)]
    }

    func eventStatus(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        .object(MethodRouter.status(try await self.operations.eventStatus(MethodRouter.event(parameters))))
    }

    /// Those that are not complete; with `state` those in it, with `all` all there are.
    func events(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        var filter = EventFilter(
            before: try parameters.identifier("before").map { EventID($0) },
            limit: try parameters.limit(default: 50, maximum: MethodRouter.maximumEvents))
        if let state = try parameters.choice("state", of: EventState.allCases.map(\.rawValue)) {
            filter.states = EventState(rawValue: state).map { [$0] }
        }
        if try parameters.bool("all") {
            guard filter.states == nil else { throw .badRequest("give 'state' or 'all', not both") }
            filter.states = Set(EventState.allCases)
        }
        if parameters.isPresent("type") {
            filter.type = try parameters.string("type", upTo: MethodRouter.maximumEventType)
        }
        if parameters.isPresent("streamer") { filter.streamer = try parameters.user("streamer") }
        let page = try await self.operations.events(filter)
        return [
            "events": .array(page.events.map { .object(MethodRouter.listed($0)) }),
            "next": page.next.map { .string($0.description) } ?? .null,
        ]
    }

    private static func event(_ parameters: Parameters) throws(FanfareError) -> EventID {
        guard let event = try parameters.identifier("event_id") else { throw .badRequest("'event_id' is missing") }
        return EventID(event)
    }

    private static func listed(_ status: EventStatus) -> [JSON.Member] {
        let streamer = status.streamer.map { JSON.string($0.rawValue) } ?? .null
        return self.status(status) + [.init("streamer", streamer)]
    }

    private static func status(_ status: EventStatus) -> [JSON.Member] {
        [
            .init("event_id", .string(status.event.description)),
            .init("type", .string(status.type)),
            .init("accepted_at", .string(status.acceptedAt.description)),
            .init("shards", ["total": .integer(status.shardsTotal), "done": .integer(status.shardsDone)]),
            .init("recipients", .integer(status.recipients)),
            .init("delivered_online", .integer(status.deliveredOnline)),
            .init("dead_letters", .integer(status.deadLetters)),
            .init("completed_at", status.completedAt.map { .string($0.description) } ?? .null),
            .init("state", .string(status.state.rawValue)),
            .init("total", status.total.map { .integer($0) } ?? .null),
            .init("done", .integer(status.recipients)),
            .init("withdrawn", .integer(status.withdrawn)),
            .init("priority", .integer(status.priority)),
            .init("rate_per_s", .integer(Int(status.rate.rounded()))),
            .init("eta_s", status.remainingSeconds.map { .integer($0) } ?? .null),
        ]
    }
}
