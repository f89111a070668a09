package import FanfareModel
import FanfareProtocol

/// What `fanfare watch` says and understands: the centrifuge protocol for one channel, over any number of connections.
/// No I/O: messages in, actions out.
package struct WatchSession: Sendable {
    package enum Action: Sendable, Hashable {
        /// To be sent as one text message.
        case send(Bytes)
        case publication(Watched)
        /// For standard error.
        case note(String)
        /// The subscription is in place. The server pings this often; nil: never.
        case subscribed(pingInterval: Duration?)
        /// Close, and connect again after a while.
        case reconnect(String)
        /// Close; trying again is no use.
        case fail(String)
    }

    /// One publication as it is printed.
    package struct Watched: Sendable, Hashable {
        /// The whole push: raw JSON.
        package var push: Bytes
        /// Raw JSON.
        package var data: Bytes
        /// 0 where the channel has none.
        package var offset: UInt64
        /// Nil where the server published.
        package var user: String?

        /// One line for people.
        package var text: String {
            let data = String(decoding: self.data, as: UTF8.self)
            let safe = String(
                String.UnicodeScalarView(
                    data.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }))
            return "\(self.offset)\t\(self.user ?? "-")\t\(safe)"
        }
    }

    package let channel: String
    private let token: String?
    /// Nil until the first subscription that can be recovered.
    package private(set) var position: StreamPosition?
    private var pingInterval: Duration?
    private var expectsPong = false

    package init(channel: String, token: String?) {
        self.channel = channel
        self.token = token
    }

    /// A new connection is open: the first message.
    package mutating func connected() -> Bytes {
        self.pingInterval = nil
        self.expectsPong = false
        var connect: [JSON.Member] = [.init("name", "fanfare-watch")]
        if let token, !token.isEmpty { connect.append(.init("token", .string(token))) }
        // For channels to which the server subscribes by itself.
        if let position {
            connect.append(.init("subs", .object([.init(self.channel, .object(self.recovery(position)))])))
        }
        return JSON.object([.init("id", 1), .init("connect", .object(connect))]).serialize()
    }

    /// The server closed with this code.
    package func closed(code: UInt16?, reason: String) -> Action {
        let text =
            "closed by the server: \(reason.isEmpty ? "no reason" : reason) (\(code.map(String.init) ?? "no code"))"
        guard let code else { return .reconnect(text) }
        return Disconnect(code: code, reason: reason).clientReconnects ? .reconnect(text) : .fail(text)
    }

    /// A message came: one object per line.
    package mutating func received(_ message: Bytes) -> [Action] {
        var actions: [Action] = []
        for line in message.split(separator: UInt8(ascii: "\n")) {
            do {
                try self.received(object: Bytes(line), &actions)
            } catch {
                actions.append(.reconnect("the server sent what is no JSON of this protocol"))
                return actions
            }
        }
        return actions
    }

    private mutating func received(object line: Bytes, _ actions: inout [Action]) throws(JSONError) {
        let object = try JSONObject(line)
        if object.keys.isEmpty {
            if self.expectsPong { actions.append(.send(Bytes("{}".utf8))) }
        } else if let push = try object.object("push") {
            try self.received(push, whole: line, &actions)
        } else if let error = try object.object("error") {
            let code = try error.integer("code", as: UInt32.self) ?? 0
            try self.refused(code, error.string("message") ?? "", error.bool("temporary") ?? false, &actions)
        } else if let connect = try object.object("connect") {
            let ping: Int64 = try connect.integer("ping") ?? 0
            self.pingInterval = ping > 0 ? .seconds(min(ping, 86_400)) : nil
            self.expectsPong = try connect.bool("pong") ?? false
            if let subscription = try connect.object("subs")?.object(self.channel) {
                try self.subscribed(subscription, &actions)
            } else {
                actions.append(.send(self.subscribe()))
            }
        } else if let subscription = try object.object("subscribe") {
            try self.subscribed(subscription, &actions)
        }
    }

    private func subscribe() -> Bytes {
        var members: [JSON.Member] = [.init("channel", .string(self.channel))]
        if let position { members += self.recovery(position) }
        return JSON.object([.init("id", 2), .init("subscribe", .object(members))]).serialize()
    }

    private func recovery(_ position: StreamPosition) -> [JSON.Member] {
        [
            .init("recover", true), .init("epoch", .string(position.epoch)),
            .init("offset", .integer(position.offset)),
        ]
    }

    private func refused(_ code: UInt32, _ message: String, _ isTemporary: Bool, _ actions: inout [Action]) {
        // 105: the server had subscribed this connection already.
        if code == FanfareError.alreadySubscribed.code {
            actions.append(.subscribed(pingInterval: self.pingInterval))
        } else if isTemporary {
            actions.append(.reconnect("error \(code): \(message)"))
        } else {
            actions.append(.fail("error \(code): \(message)"))
        }
    }

    private mutating func subscribed(_ subscription: JSONObject, _ actions: inout [Action]) throws(JSONError) {
        actions.append(.subscribed(pingInterval: self.pingInterval))
        let wasRecovering = self.position != nil
        let recovered = try subscription.bool("recovered") ?? false
        let epoch = try subscription.string("epoch") ?? ""
        let offset = try subscription.integer("offset", as: UInt64.self) ?? 0
        if wasRecovering, !recovered {
            actions.append(.note("some publications may be missing: the history did not reach back far enough"))
        }
        if wasRecovering, recovered {
            for publication in try subscription.array("publications") ?? [] {
                let push = JSON.object([
                    .init(
                        "push", .object([.init("channel", .string(self.channel)), .init("pub", .raw(publication))]))
                ])
                try self.published(JSONObject(publication), push: push.serialize(), &actions)
            }
        }
        let isRecoverable = try subscription.bool("recoverable") ?? false
        if isRecoverable {
            self.position = StreamPosition(
                offset: wasRecovering && recovered ? max(offset, self.position?.offset ?? 0) : offset, epoch: epoch)
        }
    }

    private mutating func received(
        _ push: JSONObject, whole line: Bytes, _ actions: inout [Action]
    ) throws(JSONError) {
        if let disconnect = try push.object("disconnect") {
            let code = try disconnect.integer("code", as: UInt16.self) ?? 0
            actions.append(self.closed(code: code, reason: try disconnect.string("reason") ?? ""))
            return
        }
        guard try push.string("channel") == self.channel else { return }
        if let publication = try push.object("pub") {
            try self.published(publication, push: line, &actions)
        } else if let unsubscribe = try push.object("unsubscribe") {
            let code = try unsubscribe.integer("code", as: UInt32.self) ?? 0
            let reason = try unsubscribe.string("reason") ?? ""
            if code >= 2500 {
                actions.append(.note("subscribing again: \(reason) (\(code))"))
                actions.append(.send(self.subscribe()))
            } else {
                actions.append(.fail("the server ended the subscription: \(reason) (\(code))"))
            }
        }
    }

    private mutating func published(
        _ publication: JSONObject, push: Bytes, _ actions: inout [Action]
    ) throws(JSONError) {
        let offset = try publication.integer("offset", as: UInt64.self) ?? 0
        if offset > 0, let last = self.position?.offset {
            // Recovery and the live stream may overlap.
            guard offset > last else { return }
            self.position?.offset = offset
        }
        let user = try publication.object("info")?.string("user")
        actions.append(
            .publication(
                Watched(push: push, data: publication.raw("data") ?? Bytes("null".utf8), offset: offset, user: user)))
    }
}
