internal import FanfareCore
internal import FanfareEngines
package import FanfareModel
package import FanfareProtocol

extension MethodRouter {
    private static let maximumCommands = 1000

    // MARK: Cluster

    func info() async throws(FanfareError) -> JSON {
        let nodes = try await self.operations.nodes()
        return [
            "nodes": .array(
                nodes.map { node in
                    [
                        "uid": .string(node.incarnation), "name": .string(node.node.rawValue),
                        "version": .string(node.version), "num_clients": .integer(node.sessions),
                        "num_users": .integer(node.users), "num_subs": .integer(node.subscriptions),
                        "num_channels": .integer(node.channels), "uptime": .integer(node.uptimeSeconds),
                    ]
                })
        ]
    }

    func cluster() async throws(FanfareError) -> JSON {
        let status = try await self.operations.clusterStatus()
        return [
            "view": .integer(status.view.number),
            "generation": .string(status.view.generation),
            "nodes": .array(
                status.nodes.map { node in
                    [
                        "name": .string(node.node.rawValue), "state": .string(node.state.rawValue),
                        "slots": .integer(node.slots), "sessions": .integer(node.sessions),
                        "rooms": .integer(node.rooms), "version": .string(node.version),
                        "uptime_s": .integer(node.uptimeSeconds),
                    ]
                }),
        ]
    }

    func clusterSlots(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        let table = try await self.operations.slotTable()
        var members: [JSON.Member] = [
            .init("view", .integer(table.view?.number ?? 0)),
            .init("generation", .string(table.view?.generation ?? "")),
            .init(
                "nodes",
                .array(
                    table.nodes.map { node in
                        let slots = table.slots(of: node).map(\.index)
                        return [
                            "name": .string(node.rawValue), "count": .integer(slots.count),
                            "slots": .array(slots.map { .integer($0) }),
                        ]
                    })),
        ]
        if parameters.raw("channel") != nil {
            let channel = try parameters.channel()
            let owner = table.owner(of: channel).map { JSON.string($0.rawValue) } ?? .null
            members.append(
                .init(
                    "channel",
                    ["channel": .string(channel.name), "slot": .integer(channel.slot.index), "node": owner]))
        }
        return .object(members)
    }

    func drain(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        try await self.operations.drain(NodeID(parameters.string("node", upTo: 255)))
        return [:]
    }

    // MARK: Batch

    /// Several commands in one request; each has a reply in the same place, whatever became of the others.
    func batch(_ parameters: Parameters, by caller: Caller) async throws(FanfareError) -> JSON {
        guard let commands = try parameters.array("commands") else { throw .badRequest("'commands' is missing") }
        guard commands.count <= MethodRouter.maximumCommands else {
            throw .limitExceeded("'commands' has more than \(MethodRouter.maximumCommands) elements")
        }
        var replies: [JSON] = []
        if try parameters.bool("parallel") {
            replies = await MethodRouter.concurrently(commands.count) { index in
                await self.reply(to: commands[index], by: caller)
            }
        } else {
            for command in commands { replies.append(await self.reply(to: command, by: caller)) }
        }
        return ["replies": .array(replies)]
    }

    private func reply(to command: Bytes, by caller: Caller) async -> JSON {
        do throws(FanfareError) {
            let command = try Parameters(command, maximumData: self.maximumData)
            let methods = command.keys.compactMap { Method(rawValue: $0) }
            guard methods.count == 1, let method = methods.first else { throw .methodNotFound }
            guard let parameters = try command.object(method.rawValue) else { throw .badRequest }
            let result = try await self.result(of: method, parameters, by: caller)
            return .object([JSON.Member(method.rawValue, result)])
        } catch {
            return ["error": MethodRouter.error(error)]
        }
    }

    // MARK: Helpers

    package static func error(_ error: FanfareError) -> JSON {
        var members: [JSON.Member] = [
            .init("code", .integer(error.code)), .init("message", .string(error.message)),
        ]
        if error.isTemporary { members.append(.init("temporary", true)) }
        if let delay = error.retryAfterMilliseconds { members.append(.init("retry_after_ms", .integer(delay))) }
        return .object(members)
    }

    /// The results of `body` for 0 to `count` - 1, in that order.
    static func concurrently(
        _ count: Int, _ body: @escaping @Sendable (Int) async -> JSON
    ) async -> [JSON] {
        await withTaskGroup(of: (Int, JSON).self) { tasks in
            for index in 0..<count { tasks.addTask { (index, await body(index)) } }
            var results = [JSON](repeating: .null, count: count)
            for await (index, result) in tasks { results[index] = result }
            return results
        }
    }
}
