import FanfareCore
import FanfareModel
import FanfareProtocol

extension Session {
    func perform(_ command: Command) throws(Disconnect) {
        let id = command.id
        switch command.body {
        case .connect: throw .badRequest
        case .send: throw .notAvailable
        case .pong: try self.pong()
        case .refresh(let token): self.refresh(id: id, token: token)
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
    var caller: Caller {
        .client(ClientInfo(user: self.user, client: self.client, connectionInfo: self.info), self.role)
    }

    // MARK: Commands

    /// Runs `work` and answers with its result; commands of one session begin in the order of their arrival.
    private func answer(_ id: UInt32, _ work: @escaping () async throws(FanfareError) -> ReplyBody) {
        guard self.commandsUnderWay < self.services.limits.commandsUnderWay else {
            return self.refuse(id, .tooManyRequests)
        }
        self.commandsUnderWay += 1
        self.loop.task {
            do throws(FanfareError) {
                let body = try await work()
                self.reply(id, body)
            } catch {
                self.refuse(id, error)
            }
            self.commandsUnderWay -= 1
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
