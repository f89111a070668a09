internal import FanfareEngines
internal import FanfareModel
internal import FanfareProtocol

extension MethodRouter {
    private static let maximumDeadLetters = 1000

    func deadLetters(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        let filter = try MethodRouter.filter(parameters, defaultLimit: 100)
        let letters = try await self.operations.deadLetters(filter)
        var members: [JSON.Member] = [
            .init("dead_letters", .array(letters.map { MethodRouter.deadLetter($0) }))
        ]
        if try parameters.bool("count") {
            let count = try await self.operations.countDeadLetters(filter)
            members.append(.init("total", .integer(count.count)))
            members.append(.init("last_id", .string(String(count.lastID))))
        }
        return .object(members)
    }

    func replayDeadLetters(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        try await self.settle(parameters, as: .replay, result: "replayed")
    }

    func discardDeadLetters(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        try await self.settle(parameters, as: .discard, result: "discarded")
    }

    /// With `dry_run` nothing changes: `matched` says how many would be settled.
    private func settle(
        _ parameters: Parameters, as settlement: DeadLetterSettlement, result name: String
    ) async throws(FanfareError) -> JSON {
        let which = try self.selection(parameters)
        let isTrial = try parameters.bool("dry_run")
        var count = 0
        if which != .ids([]) {
            count = try await self.operations.settleDeadLetters(which, as: settlement, isTrial: isTrial)
        }
        let settled = JSON.Member(name, .integer(isTrial ? 0 : count))
        return .object(isTrial ? [settled, .init("matched", .integer(count))] : [settled])
    }

    /// Those named, or those that a filter finds; to mean all of them takes saying so.
    private func selection(_ parameters: Parameters) throws(FanfareError) -> DeadLetterSelection {
        let filters = MethodRouter.filterNames.filter { parameters.isPresent($0) }
        let isForAll = try parameters.bool("all")
        if let ids = try parameters.identifiers("ids", upTo: MethodRouter.maximumDeadLetters) {
            // Which of the two is meant would be a guess.
            guard filters.isEmpty, !isForAll else { throw .badRequest("give 'ids' or filters, not both") }
            return .ids(ids)
        }
        guard !filters.isEmpty || isForAll else {
            let names = MethodRouter.filterNames.map { "'\($0)'" }.joined(separator: ", ")
            throw .badRequest("give 'ids', a filter (\(names)), or 'all': true")
        }
        var filter = try MethodRouter.filter(parameters, defaultLimit: MethodRouter.maximumDeadLetters)
        filter.includesSettled = false
        return .matching(filter)
    }

    /// Those that choose; `after`, `up_to` and `limit` alone do not.
    private static let filterNames = [
        "event_id", "kind", "endpoint", "error_class", "sqlstate", "streamer", "user", "older_than_s", "newer_than_s",
    ]

    private static func filter(
        _ parameters: Parameters, defaultLimit: Int
    ) throws(FanfareError) -> DeadLetterFilter {
        var filter = DeadLetterFilter(
            event: try parameters.identifier("event_id").map { EventID($0) },
            kind: try parameters.choice("kind", of: DeadLetter.kinds),
            includesSettled: try parameters.bool("settled"),
            after: try parameters.identifier("after") ?? 0,
            limit: try parameters.limit(default: defaultLimit, maximum: self.maximumDeadLetters))
        if parameters.isPresent("endpoint") { filter.endpoint = try parameters.string("endpoint", upTo: 255) }
        filter.errorClass = try parameters.choice("error_class", of: DeadLetter.ErrorClass.allCases.map(\.rawValue))
            .flatMap { DeadLetter.ErrorClass(rawValue: $0) }
        filter.sqlState = try self.sqlState(parameters)
        if parameters.isPresent("streamer") { filter.streamer = try parameters.user("streamer") }
        if parameters.isPresent("user") { filter.user = try parameters.user("user") }
        filter.minimumAge = try parameters.seconds("older_than_s")
        filter.maximumAge = try parameters.seconds("newer_than_s")
        filter.upTo = try parameters.identifier("up_to")
        filter.ids = try parameters.identifiers("ids", upTo: self.maximumDeadLetters)
        return filter
    }

    private static func sqlState(_ parameters: Parameters) throws(FanfareError) -> String? {
        guard let state = try parameters.string("sqlstate") else { return nil }
        let isLegal =
            state.utf8.count == 5 && state.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) }
        guard isLegal else { throw .badRequest("'sqlstate' is five digits and capital letters, such as 23505") }
        return state
    }

    private static func deadLetter(_ letter: DeadLetter) -> JSON {
        [
            "id": .string(String(letter.id)),
            "kind": .string(letter.kind),
            "endpoint": .string(letter.endpoint),
            "event_id": letter.event.map { .string($0.description) } ?? .null,
            "streamer": letter.streamer.map { .string($0.rawValue) } ?? .null,
            "user": letter.user.map { .string($0.rawValue) } ?? .null,
            "shard": letter.shard.map { .integer($0.index) } ?? .null,
            "order_key": .string(letter.orderKey),
            "payload": .raw(letter.payload),
            "error_class": .string(letter.errorClass.rawValue),
            "sqlstate": letter.sqlState.map { .string($0) } ?? .null,
            "cause": .string(letter.cause),
            "attempts": .integer(letter.attempts),
            "first_failed_at": .string(letter.firstFailedAt.description),
            "last_failed_at": .string(letter.lastFailedAt.description),
            "state": .string(letter.state.rawValue),
            "settled_at": letter.settledAt.map { .string($0.description) } ?? .null,
            "replay_of": letter.replayOf.map { .string(String($0)) } ?? .null,
        ]
    }
}
