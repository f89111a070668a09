internal import FanfareModel
internal import FanfareProtocol

extension MethodRouter {
    /// Clients that a `disconnect` spares.
    private static let maximumWhitelist = 1000
    /// What a close frame holds (RFC 6455, 5.5).
    private static let maximumReason = 123

    func subscribe(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        let order = SubscribeOrder(
            sessions: try MethodRouter.sessions(parameters), channel: try parameters.channel(),
            info: try parameters.data("info", encoded: "b64info", isRequired: false),
            data: try parameters.data("data", encoded: "b64data", isRequired: false),
            recoverSince: try parameters.streamPosition("recover_since"))
        // The server decides who is subscribed, but not whose user channel or direct messages are whose.
        guard ChannelRules.maySubscribe(order.sessions.user, to: order.channel) else { throw .permissionDenied }
        try await self.operations.subscribe(order)
        return [:]
    }

    func unsubscribe(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        try await self.operations.unsubscribe(MethodRouter.sessions(parameters), from: parameters.channel())
        return [:]
    }

    func disconnect(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        var sessions = try MethodRouter.sessions(parameters)
        let spared = try parameters.strings("whitelist") ?? []
        guard spared.count <= MethodRouter.maximumWhitelist else {
            throw .limitExceeded("'whitelist' has more than \(MethodRouter.maximumWhitelist) elements")
        }
        sessions.except = spared.map { ClientID($0) }
        try await self.operations.disconnect(sessions, with: MethodRouter.disconnect(parameters))
        return [:]
    }

    private static func disconnect(_ parameters: Parameters) throws(FanfareError) -> Disconnect {
        guard let wanted = try parameters.object("disconnect") else { return .forced }
        let reason = try wanted.string("reason") ?? ""
        guard let code = try wanted.integer("code"), (3000...4999).contains(code) else {
            throw .badRequest("a disconnect code is 3000 to 4999")
        }
        guard reason.utf8.count <= MethodRouter.maximumReason else {
            throw .badRequest("a disconnect reason has at most \(MethodRouter.maximumReason) bytes")
        }
        return Disconnect(code: UInt16(code), reason: reason)
    }

    func refresh(_ parameters: Parameters) async throws(FanfareError) -> JSON {
        let sessions = try MethodRouter.sessions(parameters)
        let end = try parameters.integer("expire_at").flatMap { $0 == 0 ? nil : $0 }
        let isExpired = try parameters.bool("expired")
        try await self.operations.refresh(sessions, isExpired ? .expired : .until(end))
        return [:]
    }

    private static func sessions(_ parameters: Parameters) throws(FanfareError) -> SessionSelector {
        // Who names one session must not reach all of the user's.
        guard try parameters.string("session") ?? "" == "" else {
            throw .notAvailable("clients are told apart by 'client'")
        }
        return SessionSelector(user: try parameters.user("user"), client: try parameters.client("client"))
    }
}
