internal import FanfareModel
internal import FanfareProtocol

extension MethodRouter {
    /// Channels of one broadcast.
    private static let maximumBroadcast = 1000
    /// Publications of one page of history.
    private static let maximumHistory = 300

    func publish(_ parameters: Parameters, by caller: Caller) async throws(FanfareError) -> JSON {
        let order = try MethodRouter.publishOrder(to: parameters.channel(), parameters)
        return MethodRouter.position(try await self.operations.publish(order, by: caller))
    }

    private static func publishOrder(
        to channel: Channel, _ parameters: Parameters
    ) throws(FanfareError) -> PublishOrder {
        PublishOrder(
            channel: channel, data: try parameters.data("data", encoded: "b64data"), tags: try parameters.tags(),
            idempotencyKey: try parameters.idempotencyKey(), skipsHistory: try parameters.bool("skip_history"),
            version: try parameters.version())
    }

    func broadcast(_ parameters: Parameters, by caller: Caller) async throws(FanfareError) -> JSON {
        guard let names = try parameters.strings("channels"), !names.isEmpty else {
            throw .badRequest("'channels' is missing or empty")
        }
        guard names.count <= MethodRouter.maximumBroadcast else {
            throw .limitExceeded("'channels' has more than \(MethodRouter.maximumBroadcast) elements")
        }
        // What is wrong for all channels is told once.
        _ = try parameters.data("data", encoded: "b64data")
        let replies = await MethodRouter.concurrently(names.count) { index in
            do throws(FanfareError) {
                let order = try MethodRouter.publishOrder(to: Channel(names[index]), parameters)
                return ["result": MethodRouter.position(try await self.operations.publish(order, by: caller))]
            } catch {
                return ["error": MethodRouter.error(error)]
            }
        }
        return ["responses": .array(replies)]
    }

    func presence(_ parameters: Parameters, for caller: Caller) async throws(FanfareError) -> JSON {
        let clients = try await self.operations.presence(parameters.channel(), for: caller)
        return ["presence": .object(clients.map { JSON.Member($0.client.rawValue, MethodRouter.client($0)) })]
    }

    func presenceStats(_ parameters: Parameters, for caller: Caller) async throws(FanfareError) -> JSON {
        let stats = try await self.operations.presenceStats(parameters.channel(), for: caller)
        return ["num_clients": .integer(stats.clients), "num_users": .integer(stats.users)]
    }

    func history(_ parameters: Parameters, for caller: Caller) async throws(FanfareError) -> JSON {
        let channel = try parameters.channel()
        let limit = try parameters.integer("limit") ?? 0
        guard limit >= -1 else { throw .badRequest("'limit' is -1 or more") }
        let filter = HistoryFilter(
            limit: limit == -1 ? MethodRouter.maximumHistory : Int(min(limit, Int64(MethodRouter.maximumHistory))),
            since: try parameters.streamPosition("since"), reverse: try parameters.bool("reverse"))
        if filter.reverse, filter.since?.offset == 0 { throw .badRequest("there is nothing before offset 0") }
        let page = try await self.operations.history(channel, filter, for: caller)
        return [
            "publications": .array(page.publications.map { MethodRouter.publication($0) }),
            "offset": .integer(page.top.offset),
            "epoch": .string(page.top.epoch),
        ]
    }

    func removeHistory(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        try await self.operations.removeHistory(parameters.channel())
        return [:]
    }

    func channels(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        let pattern = try parameters.string("pattern").flatMap { $0.isEmpty ? nil : $0 }
        guard (pattern?.utf8.count ?? 0) <= Channel.maximumLength else { throw .badRequest("'pattern' is too long") }
        let channels = try await self.operations.channels(matching: pattern)
        return [
            "channels": .object(
                channels.sorted { $0.key < $1.key }.map { JSON.Member($0.key, ["num_clients": .integer($0.value)]) })
        ]
    }

    // MARK: JSON

    static func position(_ position: StreamPosition?) -> JSON {
        guard let position else { return [:] }
        return ["offset": .integer(position.offset), "epoch": .string(position.epoch)]
    }

    static func client(_ info: ClientInfo) -> JSON {
        var members = [
            JSON.Member("user", .string(info.user.rawValue)), .init("client", .string(info.client.rawValue)),
        ]
        if !info.connectionInfo.isEmpty { members.append(.init("conn_info", .raw(info.connectionInfo))) }
        if !info.channelInfo.isEmpty { members.append(.init("chan_info", .raw(info.channelInfo))) }
        return .object(members)
    }

    static func publication(_ publication: Publication) -> JSON {
        var members = [JSON.Member("data", .raw(publication.data)), .init("offset", .integer(publication.offset))]
        if let info = publication.info { members.append(.init("info", MethodRouter.client(info))) }
        if !publication.tags.isEmpty {
            let tags = publication.tags.sorted { $0.key < $1.key }
            members.append(.init("tags", .object(tags.map { JSON.Member($0.key, .string($0.value)) })))
        }
        return .object(members)
    }
}
