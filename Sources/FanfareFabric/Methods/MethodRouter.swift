internal import FanfareEngines
package import FanfareModel
internal import FanfareProtocol

/// From a method's name and JSON parameters to an operation and back to JSON: shared by the server API and clients' rpc,
/// so that both validate alike.
package struct MethodRouter: Sendable {
    let operations: any NodeOperations
    /// Bytes of a payload.
    let maximumData: Int
    /// The longest `ttl_s`, in seconds.
    let maximumTimeToLive: Int

    package init(
        operations: any NodeOperations, maximumData: Int = 64 << 10, maximumTimeToLive: Int = 30 * 86_400
    ) {
        self.operations = operations
        self.maximumData = maximumData
        self.maximumTimeToLive = maximumTimeToLive
    }

    /// - Parameter parameters: a JSON object; empty for none.
    /// - Returns: the result: a JSON object.
    /// - Throws: 107 and 106 for parameters that are wrong, 104 and 101 for what clients may not call, and whatever the
    ///   operation throws.
    package func call(
        _ method: Method, _ parameters: Bytes, by caller: Caller
    ) async throws(FanfareError) -> Bytes {
        if case .client(let info, _) = caller {
            guard !info.user.isAnonymous else { throw .unauthorized }
            guard method.isForClients else { throw .methodNotFound }
        }
        let parameters = try Parameters(parameters, maximumData: self.maximumData)
        guard method != .batch else { return try await self.batch(parameters, by: caller).serialize() }
        return try await self.result(of: method, parameters, by: caller).serialize()
    }

    /// An rpc of a client.
    /// - Throws: 101 for anonymous clients, 104 for a method that is not theirs to call.
    package func callRemote(
        _ method: String, _ parameters: Bytes, by caller: Caller
    ) async throws(FanfareError) -> Bytes {
        if let user = caller.info?.user, user.isAnonymous { throw .unauthorized }
        guard let method = Method(rawValue: method) else { throw .methodNotFound }
        return try await self.call(method, parameters, by: caller)
    }

    func result(
        of method: Method, _ parameters: Parameters, by caller: Caller
    ) async throws(FanfareError) -> JSON {
        switch method {
        case .publish: try await self.publish(parameters, by: caller)
        case .broadcast: try await self.broadcast(parameters, by: caller)
        case .subscribe: try await self.subscribe(parameters)
        case .unsubscribe: try await self.unsubscribe(parameters)
        case .disconnect: try await self.disconnect(parameters)
        case .refresh: try await self.refresh(parameters)
        case .presence: try await self.presence(parameters, for: caller)
        case .presenceStats: try await self.presenceStats(parameters, for: caller)
        case .history: try await self.history(parameters, for: caller)
        case .historyRemove: try await self.removeHistory(parameters)
        case .channels: try await self.channels(parameters)
        case .info: try await self.info()
        case .follow: try await self.follow(parameters, by: caller)
        case .unfollow: try await self.unfollow(parameters, by: caller)
        case .preferences: try await self.preferences(parameters, by: caller)
        case .setPreferences: try await self.setPreferences(parameters, by: caller)
        case .startStream: try await self.startStream(parameters, by: caller)
        case .stopStream: try await self.stopStream(parameters, by: caller)
        case .notify: try await self.notify(parameters)
        case .scheduledEvents: try await self.scheduledEvents(parameters)
        case .cancelScheduledEvent: try await self.cancelScheduledEvent(parameters)
        case .notifications: try await self.notifications(parameters, by: caller)
        case .markRead: try await self.mark(.read, parameters, by: caller)
        case .archive: try await self.mark(.archived, parameters, by: caller)
        case .events: try await self.events(parameters)
        case .eventStatus: try await self.eventStatus(parameters)
        case .eventCounts: try await self.eventCounts(parameters)
        case .pauseEvent: try await self.control(.pause, parameters)
        case .resumeEvent: try await self.control(.resume, parameters)
        case .cancelEvent: try await self.control(.cancel, parameters)
        case .deadLetters: try await self.deadLetters(parameters)
        case .replayDeadLetters: try await self.replayDeadLetters(parameters)
        case .discardDeadLetters: try await self.discardDeadLetters(parameters)
        case .cluster: try await self.cluster()
        case .clusterSlots: try await self.clusterSlots(parameters)
        case .drain: try await self.drain(parameters)
        // A batch in a batch could grow without bound.
        case .batch: throw .badRequest("a batch holds no batch")
        }
    }

    /// Whose rights and inbox an operation is about: the client's own, or the one that the server names.
    func subject(_ key: String, _ parameters: Parameters, by caller: Caller) throws(FanfareError) -> UserID {
        guard let own = caller.info?.user else { return try parameters.user(key) }
        // Who names another user does not mean to act on themself.
        if let named = try parameters.string(key), !named.isEmpty, named != own.rawValue { throw .permissionDenied }
        return own
    }
}
