import FanfareCore
import FanfareModel
import FanfareProtocol

extension Session {
    func subscribe(id: UInt32, _ request: SubscribeRequest) {
        do throws(FanfareError) {
            let channel = try Channel(request.channel)
            guard request.type == 0 else { throw .notAvailable("map subscriptions") }
            guard !request.hasTagFilter else { throw .badRequest("tag filters are not available") }
            if let existing = self.subscriptions[channel.name] {
                // The user's own channel is there from the start; a client may hold it as its own subscription, too.
                guard existing.isServerSide, case .user = channel.kind else { throw .alreadySubscribed }
            } else if self.subscriptions.count >= self.services.limits.channels {
                throw .limitExceeded("\(self.services.limits.channels) subscriptions per connection")
            }
            guard ChannelRules.maySubscribe(self.user, to: channel) else { throw .permissionDenied }
            if request.token.isEmpty {
                self.subscribe(id: id, request, channel, granted: nil)
            } else {
                self.lastSerial += 1
                let serial = self.lastSerial
                self.subscriptions[channel.name] = Subscription(channel: channel, serial: serial, isServerSide: false)
                self.loop.task { await self.checkSubscriptionToken(id: id, request, channel, serial: serial) }
            }
        } catch {
            self.refuse(id, error)
        }
    }

    private func checkSubscriptionToken(id: UInt32, _ request: SubscribeRequest, _ channel: Channel, serial: UInt64)
        async
    {
        let result: Result<VerifiedSubscription, TokenFailure>
        do throws(TokenFailure) {
            result = .success(try await self.services.tokens.verifySubscription(request.token))
        } catch {
            result = .failure(error)
        }
        guard self.subscriptions[channel.name]?.serial == serial else {
            // Unsubscribed meanwhile: the client no longer waits.
            return self.refuse(id, .expired)
        }
        self.subscriptions[channel.name] = nil
        switch result {
        case .success(let verified):
            guard verified.user == self.user, verified.channel == channel.name else { return self.close(.invalidToken) }
            self.subscribe(id: id, request, channel, granted: verified)
        case .failure(.expired): self.refuse(id, .tokenExpired)
        case .failure(.invalid): self.refuse(id, .permissionDenied)
        }
    }

    private func subscribe(
        id: UInt32, _ request: SubscribeRequest, _ channel: Channel, granted: VerifiedSubscription?
    ) {
        let recovery = request.recover ? StreamPosition(offset: request.offset, epoch: request.epoch) : nil
        if case .user = channel.kind { return self.subscribeInbox(id: id, request, channel) }
        self.attach(
            channel, transport: self.transport, recovery: recovery, isServerSide: false,
            channelInfo: granted?.info ?? []
        ) { result in
            self.onThisLoop { session in
                switch result {
                case .failure(let error): session.refuse(id, error)
                case .success(let outcome):
                    if recovery != nil, outcome.recovered == nil, request.rejectsUnrecovered {
                        session.drop(channel.name)
                        return session.refuse(id, .unrecoverablePosition)
                    }
                    var answer = SubscribeResult(outcome, recovery: recovery)
                    if let ttl = session.expire(channel.name, at: granted?.expiresAt) {
                        answer.expires = true
                        answer.ttl = ttl
                    }
                    session.reply(id, .subscribe(answer))
                }
            }
        }
    }

    private func subscribeInbox(id: UInt32, _ request: SubscribeRequest, _ channel: Channel) {
        self.lastSerial += 1
        let serial = self.lastSerial
        self.subscriptions[channel.name] = Subscription(
            channel: channel, serial: serial, isServerSide: false, isActive: true)
        // Pushes wait, so that none comes both before the answer and in it.
        self.inboxReads += 1
        self.loop.task {
            defer {
                self.inboxReads -= 1
                self.deliverHeldInbox()
            }
            let recovery = RecoverRequest(recover: request.recover, offset: request.offset, epoch: request.epoch)
            let result = await self.openInbox(recovery: recovery)
            if result.wasRecovering, !result.recovered, request.rejectsUnrecovered {
                if self.subscriptions[channel.name]?.serial == serial { self.drop(channel.name) }
                return self.refuse(id, .unrecoverablePosition)
            }
            self.reply(id, .subscribe(result))
        }
    }

    /// Joins the room's edge. `completion` runs at the moment from which on publications are given to `transport`, so that
    /// what it writes comes first.
    func attach(
        _ channel: Channel, transport: any SessionTransport, recovery: StreamPosition?, isServerSide: Bool,
        channelInfo: Bytes, completion: @escaping @Sendable (Result<SubscribeOutcome, FanfareError>) -> Void
    ) {
        self.lastSerial += 1
        let serial = self.lastSerial
        self.subscriptions[channel.name] = Subscription(channel: channel, serial: serial, isServerSide: isServerSide)
        let subscriber = Subscriber(
            session: self, transport: transport, variant: self.variant,
            info: ClientInfo(
                user: self.user, client: self.client, connectionInfo: self.info, channelInfo: channelInfo))
        self.hub.onThisLoop { hub in
            hub.subscribe(subscriber, to: channel, recovery: recovery) { result in
                self.onThisLoop { session in
                    guard session.subscriptions[channel.name]?.serial == serial else {
                        // Unsubscribed meanwhile.
                        completion(.failure(.expired))
                        return false
                    }
                    if case .failure = result {
                        session.subscriptions[channel.name] = nil
                    } else {
                        session.subscriptions[channel.name]?.isActive = true
                    }
                    completion(result)
                    return session.subscriptions[channel.name]?.serial == serial
                }
            }
        }
    }

    /// The client leaves the channel; unknown channels are no error.
    func unsubscribe(_ name: String) { self.drop(name) }

    private func drop(_ name: String) {
        guard let subscription = self.subscriptions[name] else { return }
        if case .user = subscription.channel.kind {
            // The server's own subscription stays.
            self.subscriptions[name] = Subscription(
                channel: subscription.channel, serial: subscription.serial, isServerSide: true, isActive: true)
            return
        }
        subscription.expiry?.cancel()
        self.subscriptions[name] = nil
        self.hub.onThisLoop { $0.unsubscribe(self.client, from: name) }
    }

    /// The server ends the subscription and says why. For one that the server made, missing state ends the connection: the
    /// client recovers when it is back.
    func ended(_ name: String, _ why: Unsubscription) {
        guard let subscription = self.subscriptions[name], subscription.isActive else { return }
        if subscription.isServerSide, why == .insufficientState { return self.close(.insufficientState) }
        self.drop(name)
        self.push(.unsubscribe(why), channel: name)
    }

    // MARK: Expiry

    /// - Returns: seconds until then; nil for never.
    private func expire(_ name: String, at expiresAt: Int64?) -> UInt32? {
        self.subscriptions[name]?.expiry?.cancel()
        self.subscriptions[name]?.expiry = nil
        guard let ttl = self.timeToLive(until: expiresAt) else { return nil }
        let grace = self.services.limits.expiryGrace
        self.subscriptions[name]?.expiry = self.loop.schedule(after: .seconds(Int64(ttl)) + grace) {
            self.onThisLoop { $0.close(.subscriptionExpired) }
        }
        return ttl
    }

    func refreshSubscription(id: UInt32, channel name: String, token: String) {
        guard let subscription = self.subscriptions[name] else { return self.refuse(id, .permissionDenied) }
        guard !token.isEmpty else { return self.refuse(id, .badRequest("token is missing")) }
        self.loop.task {
            do throws(TokenFailure) {
                let verified = try await self.services.tokens.verifySubscription(token)
                guard verified.user == self.user, verified.channel == name else { return self.close(.invalidToken) }
                guard self.subscriptions[name]?.serial == subscription.serial else { return self.refuse(id, .expired) }
                if let expiresAt = verified.expiresAt,
                    expiresAt <= self.services.surroundings.wallClock().milliseconds / 1000
                {
                    return self.refuse(id, .expired)
                }
                let ttl = self.expire(name, at: verified.expiresAt)
                self.reply(id, .subRefresh(expires: ttl != nil, ttl: ttl ?? 0))
            } catch {
                switch error {
                case .expired: self.refuse(id, .expired)
                case .invalid: self.close(.invalidToken)
                }
            }
        }
    }

    // MARK: What the server API asks

    /// Adds a server-side subscription and tells the client.
    func subscribeByServer(to channel: Channel, recovery: StreamPosition?, info: Bytes, data: Bytes) {
        guard case .connected = self.phase, self.subscriptions[channel.name] == nil,
            self.subscriptions.count < self.services.limits.channels
        else { return }
        if case .user = channel.kind { return }
        self.attach(channel, transport: self.transport, recovery: recovery, isServerSide: true, channelInfo: info) {
            result in
            self.onThisLoop { session in
                guard case .success(let outcome) = result else { return }
                let push = SubscribePush(
                    recoverable: true, position: outcome.position, positioned: true, data: data)
                session.push(.subscribe(push), channel: channel.name)
                for publication in outcome.recovered ?? [] {
                    session.push(.publication(publication), channel: channel.name)
                }
            }
        }
    }

    func unsubscribeByServer(from name: String) {
        guard let subscription = self.subscriptions[name], subscription.isActive else { return }
        if case .user = subscription.channel.kind { return }
        self.drop(name)
        self.push(.unsubscribe(.server), channel: name)
    }
}
