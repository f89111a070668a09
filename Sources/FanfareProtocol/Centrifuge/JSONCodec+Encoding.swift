package import FanfareModel

// Zero values are left out, except the fields that clients rely on. The order is the schema's.
extension JSONCodec {
    static func encode(_ reply: Reply, into object: inout Bytes) {
        JSONWriter.append(to: &object) { writer in
            writer.beginObject()
            if reply.id != 0 {
                writer.key("id")
                writer.integer(reply.id)
            }
            writer.result(reply.body)
            writer.endObject()
        }
    }

    static func encode(_ push: Push, channel: String, into object: inout Bytes) {
        JSONWriter.append(to: &object) { writer in
            writer.beginObject()
            writer.key("push")
            writer.push(push, channel: channel)
            writer.endObject()
        }
    }

    /// The inside of a push, as unidirectional transports send it.
    static func encodeUnidirectional(_ push: Push, channel: String, into object: inout Bytes) {
        JSONWriter.append(to: &object) { $0.push(push, channel: channel) }
    }
}

extension ProtocolVariant {
    /// What a unidirectional transport (`uni_sse`) sends: the inside of a push as JSON.
    package static func unidirectional(_ push: Push, channel: String) -> Bytes {
        var object = Bytes()
        JSONCodec.encodeUnidirectional(push, channel: channel, into: &object)
        return object
    }
}

/// Objects of the protocol for other users of the same shapes, for example the server API.
extension JSONWriter {
    package mutating func publication(_ publication: Publication) {
        self.beginObject()
        self.optional("data", raw: publication.data)
        if let info = publication.info {
            self.key("info")
            self.clientInfo(info)
        }
        self.optional("offset", publication.offset)
        if !publication.tags.isEmpty {
            self.key("tags")
            self.beginObject()
            for (name, value) in publication.tags.sorted(by: { $0.key < $1.key }) {
                self.key(escaping: name)
                self.string(value)
            }
            self.endObject()
        }
        self.optional("time", publication.time)
        self.endObject()
    }

    package mutating func clientInfo(_ info: ClientInfo) {
        self.beginObject()
        self.key("user")
        self.string(info.user.rawValue)
        self.key("client")
        self.string(info.client.rawValue)
        self.optional("conn_info", raw: info.connectionInfo)
        self.optional("chan_info", raw: info.channelInfo)
        self.endObject()
    }

    /// `{"presence":{…}}`
    package mutating func presence(_ clients: [ClientInfo]) {
        self.beginObject()
        self.key("presence")
        self.beginObject()
        for client in clients {
            self.key(escaping: client.client.rawValue)
            self.clientInfo(client)
        }
        self.endObject()
        self.endObject()
    }

    /// `{"num_clients":…,"num_users":…}`
    package mutating func presenceStats(clients: UInt32, users: UInt32) {
        self.beginObject()
        self.key("num_clients")
        self.integer(clients)
        self.key("num_users")
        self.integer(users)
        self.endObject()
    }

    /// `{"publications":[…],"epoch":…,"offset":…}`
    package mutating func history(_ page: HistoryPage) {
        self.beginObject()
        self.key("publications")
        self.beginArray()
        for publication in page.publications { self.publication(publication) }
        self.endArray()
        self.key("epoch")
        self.string(page.top.epoch)
        self.key("offset")
        self.integer(page.top.offset)
        self.endObject()
    }

    /// `{"code":…,"message":…}`, with `temporary` where it is.
    package mutating func error(_ error: FanfareError) {
        self.beginObject()
        self.key("code")
        self.integer(error.code)
        self.key("message")
        self.string(error.message)
        self.optional("temporary", error.isTemporary)
        self.endObject()
    }
}

extension JSONWriter {
    fileprivate mutating func result(_ body: ReplyBody) {
        switch body {
        case .error(let error):
            self.key("error")
            self.error(error)
        case .connect(let result):
            self.key("connect")
            self.connectResult(result)
        case .subscribe(let result):
            self.key("subscribe")
            self.subscribeResult(result)
        case .unsubscribe:
            self.key("unsubscribe")
            self.emptyObject()
        case .publish:
            self.key("publish")
            self.emptyObject()
        case .presence(let clients):
            self.key("presence")
            self.presence(clients)
        case .presenceStats(let clients, let users):
            self.key("presence_stats")
            self.presenceStats(clients: clients, users: users)
        case .history(let page):
            self.key("history")
            self.history(page)
        case .rpc(let data):
            self.key("rpc")
            self.beginObject()
            self.optional("data", raw: data)
            self.endObject()
        case .refresh(let client, let version, let expires, let ttl):
            self.key("refresh")
            self.beginObject()
            self.optional("client", client?.rawValue ?? "")
            self.optional("version", version)
            self.expiry(expires, ttl)
            self.endObject()
        case .subRefresh(let expires, let ttl):
            self.key("sub_refresh")
            self.beginObject()
            self.expiry(expires, ttl)
            self.endObject()
        }
    }

    fileprivate mutating func push(_ push: Push, channel: String) {
        self.beginObject()
        self.optional("channel", channel)
        switch push {
        case .publication(let publication):
            self.key("pub")
            self.publication(publication)
        case .join(let info):
            self.key("join")
            self.info(info)
        case .leave(let info):
            self.key("leave")
            self.info(info)
        case .unsubscribe(let unsubscription):
            self.key("unsubscribe")
            self.codeAndReason(unsubscription.code, unsubscription.reason)
        case .message(let data):
            self.key("message")
            self.beginObject()
            self.optional("data", raw: data)
            self.endObject()
        case .subscribe(let subscription):
            self.key("subscribe")
            self.beginObject()
            self.optional("recoverable", subscription.recoverable)
            self.optional("epoch", subscription.position.epoch)
            self.optional("offset", subscription.position.offset)
            self.optional("positioned", subscription.positioned)
            self.optional("data", raw: subscription.data)
            self.endObject()
        case .connect(let result):
            self.key("connect")
            self.connectResult(result)
        case .disconnect(let disconnect):
            self.key("disconnect")
            self.codeAndReason(UInt32(disconnect.code), disconnect.reason)
        case .refresh(let expires, let ttl):
            self.key("refresh")
            self.beginObject()
            self.expiry(expires, ttl)
            self.endObject()
        }
        self.endObject()
    }

    private mutating func connectResult(_ result: ConnectResult) {
        self.beginObject()
        self.key("client")
        self.string(result.client.rawValue)
        self.optional("version", result.version)
        self.expiry(result.expires, result.ttl)
        self.optional("data", raw: result.data)
        if !result.subs.isEmpty {
            self.key("subs")
            self.beginObject()
            for (channel, subscription) in result.subs.sorted(by: { $0.key < $1.key }) {
                self.key(escaping: channel)
                self.subscribeResult(subscription)
            }
            self.endObject()
        }
        self.optional("ping", result.ping)
        self.optional("pong", result.pong)
        self.optional("session", result.session)
        self.optional("node", result.node)
        self.optional("time", result.time)
        self.endObject()
    }

    private mutating func subscribeResult(_ result: SubscribeResult) {
        self.beginObject()
        self.expiry(result.expires, result.ttl)
        self.optional("recoverable", result.recoverable)
        self.optional("epoch", result.epoch)
        if !result.publications.isEmpty {
            self.key("publications")
            self.beginArray()
            for publication in result.publications { self.publication(publication) }
            self.endArray()
        }
        self.optional("recovered", result.recovered)
        self.optional("offset", result.offset)
        self.optional("positioned", result.positioned)
        self.optional("data", raw: result.data)
        self.optional("was_recovering", result.wasRecovering)
        self.optional("delta", result.delta)
        self.endObject()
    }

    private mutating func info(_ info: ClientInfo) {
        self.beginObject()
        self.key("info")
        self.clientInfo(info)
        self.endObject()
    }

    /// Both are always written: some clients require them.
    private mutating func codeAndReason(_ code: UInt32, _ reason: String) {
        self.beginObject()
        self.key("code")
        self.integer(code)
        self.key("reason")
        self.string(reason)
        self.endObject()
    }

    private mutating func expiry(_ expires: Bool, _ ttl: UInt32) {
        self.optional("expires", expires)
        self.optional("ttl", ttl)
    }

    private mutating func emptyObject() {
        self.beginObject()
        self.endObject()
    }

    private mutating func optional(_ name: StaticString, _ value: String) {
        guard !value.isEmpty else { return }
        self.key(name)
        self.string(value)
    }

    private mutating func optional(_ name: StaticString, _ value: some FixedWidthInteger) {
        guard value != 0 else { return }
        self.key(name)
        self.integer(value)
    }

    private mutating func optional(_ name: StaticString, _ value: Bool) {
        guard value else { return }
        self.key(name)
        self.bool(value)
    }

    private mutating func optional(_ name: StaticString, raw value: Bytes) {
        guard !value.isEmpty else { return }
        self.key(name)
        self.raw(value)
    }
}
