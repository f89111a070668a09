import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareProtocol

extension Session {
    /// What commands of a session may overlap: those of one class, but for `alone`.
    enum CommandClass {
        case subscribe
        case publish
        case read
        case alone
    }

    /// Commands take effect in the order in which they came, and are answered in it: what is published in one message with a
    /// later `history` is in that history. Publications of a client overlap, so that they make batches; so do subscriptions
    /// (a client that is back asks for all of its own at once) and reads.
    func perform(_ command: Command) throws(Disconnect) {
        let kind: CommandClass
        switch command.body {
        case .connect: throw .badRequest
        case .send: throw .notAvailable
        case .pong: return try self.pong()
        case .refused(let error): return self.refuse(command.id, error)
        case .refresh(let token): return self.refresh(id: command.id, token: token)
        case .subscribe: kind = .subscribe
        case .publish: kind = .publish
        case .presence, .presenceStats, .history: kind = .read
        case .unsubscribe, .subRefresh, .rpc: kind = .alone
        }
        guard self.waiting.count + self.underWay.count < self.services.limits.commandsUnderWay else {
            return self.refuseUnderLoad(command.id)
        }
        self.waiting.append(WaitingCommand(command: command, kind: kind))
        self.startWaiting()
    }

    /// Starts what may run beside what runs. Called again when nothing is under way any more.
    func startWaiting() {
        while let next = self.waiting.first {
            if !self.underWay.isEmpty, next.kind == .alone || self.runningClass != next.kind { return }
            // Ids are told apart by their answers: a client that uses one twice waits for the first.
            if self.underWay.contains(next.command.id) { return }
            self.waiting.popFirst()
            self.runningClass = next.kind
            self.underWay.insert(next.command.id)
            self.start(next.command)
        }
    }

    /// Every branch answers once with the command's id, or ends the session.
    private func start(_ command: Command) {
        let id = command.id
        switch command.body {
        case .connect, .send, .pong, .refresh, .refused: break
        case .subscribe(let request): self.subscribe(id: id, request)
        case .unsubscribe(let channel):
            self.unsubscribe(channel)
            self.reply(id, .unsubscribe)
        case .subRefresh(let channel, let token): self.refreshSubscription(id: id, channel: channel, token: token)
        case .publish(let name, let data): self.publish(id: id, name, data)
        case .presence(let name):
            self.answer(id, reading: name) { channel async throws(FanfareError) in
                .presence(try await self.services.backend.presence(channel, for: self.caller))
            }
        case .presenceStats(let name):
            self.answer(id, reading: name) { channel async throws(FanfareError) in
                let stats = try await self.services.backend.presenceStats(channel, for: self.caller)
                return .presenceStats(clients: UInt32(clamping: stats.clients), users: UInt32(clamping: stats.users))
            }
        case .history(let name, let filter):
            self.answer(id, reading: name) { channel async throws(FanfareError) in
                .history(try await self.services.backend.history(channel, filter, for: self.caller))
            }
        case .rpc(let method, let data): self.call(id: id, method, data)
        }
    }

    /// The session's user, as others see it.
    var clientInfo: ClientInfo { ClientInfo(user: self.user, client: self.client, connectionInfo: self.info) }
    var caller: Caller { .client(self.clientInfo, self.role) }

    // MARK: Commands

    /// Runs `work` and answers with its result.
    private func answer(_ id: UInt32, _ work: @escaping () async throws(FanfareError) -> ReplyBody) {
        self.loop.task {
            do throws(FanfareError) {
                let body = try await work()
                self.reply(id, body)
            } catch {
                self.refuse(id, error)
            }
        }
    }

    private func answer(
        _ id: UInt32, reading name: String, _ work: @escaping (Channel) async throws(FanfareError) -> ReplyBody
    ) {
        do throws(FanfareError) {
            let channel = try Channel(name)
            guard ChannelRules.maySubscribe(self.user, to: channel) else { throw .permissionDenied }
            self.answer(id) { () async throws(FanfareError) in try await work(channel) }
        } catch {
            self.refuse(id, error)
        }
    }

    private func publish(id: UInt32, _ name: String, _ data: Bytes) {
        do throws(FanfareError) {
            let channel = try Channel(name)
            guard ChannelRules.mayPublish(self.user, to: channel) else { throw .permissionDenied }
            guard !data.isEmpty else { throw .badRequest("data is missing") }
            guard data.count <= self.services.limits.dataBytes else {
                throw .badRequest("data is longer than \(self.services.limits.dataBytes) bytes")
            }
            if self.variant == .protobuf, !JSONScanner.isValid(data) { throw .badRequest("data is not JSON") }
            self.answer(id) { () async throws(FanfareError) in
                _ = try await self.services.backend.publish(PublishOrder(channel: channel, data: data), by: self.caller)
                return .publish
            }
        } catch {
            self.refuse(id, error)
        }
    }

    private func call(id: UInt32, _ method: String, _ data: Bytes) {
        guard !self.user.isAnonymous else { return self.refuse(id, .unauthorized) }
        if self.variant == .protobuf, !data.isEmpty, !JSONScanner.isValid(data) {
            return self.refuse(id, .badRequest("data is not JSON"))
        }
        self.answer(id) { () async throws(FanfareError) in
            .rpc(data: try await self.services.backend.call(method: method, data: data, caller: self.caller))
        }
    }
}
