import FanfareModel

/// The protocol as lines of JSON.
enum JSONCodec {
    static func decode(_ message: Bytes, limits: ProtocolVariant.Limits) throws(Disconnect) -> [Command] {
        try message.withUnsafeBufferPointer { (buffer) throws(Disconnect) in
            var commands: [Command] = []
            var start = 0
            // One newline may end the message; an empty line anywhere else is malformed.
            repeat {
                let end = buffer[start...].firstIndex(of: 0x0a) ?? buffer.count
                guard commands.count < limits.commands else { throw .badRequest }
                // What nests too deep is refused by itself, once the line is known to be well-formed.
                var scanner = JSONScanner(UnsafeBufferPointer(rebasing: buffer[start..<end]))
                do {
                    commands.append(try scanner.command(payloadDepth: limits.depth))
                } catch {
                    throw .badRequest
                }
                start = end + 1
            } while start < buffer.count
            return commands
        }
    }
}

/// The members of a command that name a method. Where several are present the first of these wins.
private enum Method: Int, Comparable {
    case connect, subscribe, unsubscribe, publish, presence, presenceStats, history, ping, send, rpc, refresh,
        subRefresh

    init?(_ key: JSONKey) {
        switch key {
        case "connect": self = .connect
        case "subscribe": self = .subscribe
        case "unsubscribe": self = .unsubscribe
        case "publish": self = .publish
        case "presence": self = .presence
        case "presence_stats": self = .presenceStats
        case "history": self = .history
        case "ping": self = .ping
        case "send": self = .send
        case "rpc": self = .rpc
        case "refresh": self = .refresh
        case "sub_refresh": self = .subRefresh
        default: return nil
        }
    }

    static func < (left: Method, right: Method) -> Bool { left.rawValue < right.rawValue }
}

extension JSONScanner {
    /// The one command that is all of the bytes.
    fileprivate mutating func command(payloadDepth: Int) throws(JSONError) -> Command {
        var id: UInt32 = 0
        var method: Method?
        var body = CommandBody.pong
        var depth = 0
        var isFirst = true
        try self.beginObject()
        while let key = try self.nextKey(isFirst: &isFirst) {
            if case "id" = key {
                id = try self.skipNull() ? 0 : try self.integer()
            } else if let found = Method(key) {
                guard !(try self.skipNull()) else { continue }
                if let method, found > method {
                    try self.skipValue()
                } else {
                    method = found
                    depth = 0
                    body = try self.body(of: found, depth: &depth)
                }
            } else {
                try self.skipValue()
            }
        }
        try self.expectEnd()
        switch method {
        case nil: guard id == 0 else { throw self.malformed }
        case .send: break
        // Reserved by the schema; the protocol's pings go the other way.
        case .ping: throw self.malformed
        case .some: guard id > 0 else { throw self.malformed }
        }
        guard body.hasChannel else { throw self.malformed }
        if depth > payloadDepth {
            body = .refused(.badRequest("data nests deeper than \(payloadDepth) levels"))
        }
        return Command(id: id, body: body)
    }

    /// - Parameter depth: becomes that of the payload, where the command carries one for others.
    private mutating func body(of method: Method, depth: inout Int) throws(JSONError) -> CommandBody {
        switch method {
        case .connect: return .connect(try self.connectRequest())
        case .subscribe: return .subscribe(try self.subscribeRequest())
        case .ping:
            try self.skipValue()
            return .pong
        case .history: return try self.historyRequest()
        case .unsubscribe, .publish, .presence, .presenceStats, .send, .rpc, .refresh, .subRefresh: break
        }
        let fields = try self.commonFields()
        switch method {
        case .unsubscribe: return .unsubscribe(channel: fields.channel)
        case .publish:
            depth = fields.depth
            return .publish(channel: fields.channel, data: fields.data)
        case .presence: return .presence(channel: fields.channel)
        case .presenceStats: return .presenceStats(channel: fields.channel)
        case .send: return .send(data: fields.data)
        case .rpc:
            depth = fields.depth
            return .rpc(method: fields.method, data: fields.data)
        case .refresh: return .refresh(token: fields.token)
        case .subRefresh: return .subRefresh(channel: fields.channel, token: fields.token)
        case .connect, .subscribe, .history, .ping: throw self.malformed
        }
    }

    /// The members that the small requests have, some of them each.
    private mutating func commonFields() throws(JSONError) -> (
        channel: String, method: String, token: String, data: Bytes, depth: Int
    ) {
        var fields = (channel: "", method: "", token: "", data: Bytes(), depth: 0)
        try self.members { (key, scanner) throws(JSONError) in
            switch key {
            case "channel": fields.channel = try scanner.string()
            case "method": fields.method = try scanner.string()
            case "token": fields.token = try scanner.string()
            case "data":
                fields.data = scanner.raw(try scanner.skipValue())
                fields.depth = scanner.lastDepth
            default: try scanner.skipValue()
            }
        }
        return fields
    }

    private mutating func connectRequest() throws(JSONError) -> ConnectRequest {
        var request = ConnectRequest()
        try self.members { (key, scanner) throws(JSONError) in
            switch key {
            case "token": request.token = try scanner.string()
            case "data": request.data = scanner.raw(try scanner.skipValue())
            case "subs":
                request.subs = [:]
                var isFirst = true
                try scanner.beginObject()
                while let channel = try scanner.nextKey(isFirst: &isFirst) {
                    request.subs[channel.string] =
                        try scanner.skipNull() ? RecoverRequest() : try scanner.recoverRequest()
                }
            case "name": request.name = try scanner.string()
            case "version": request.version = try scanner.string()
            default: try scanner.skipValue()
            }
        }
        return request
    }

    private mutating func recoverRequest() throws(JSONError) -> RecoverRequest {
        let request = try self.subscribeRequest()
        return RecoverRequest(recover: request.recover, offset: request.offset, epoch: request.epoch)
    }

    private mutating func subscribeRequest() throws(JSONError) -> SubscribeRequest {
        var request = SubscribeRequest(channel: "")
        try self.members { (key, scanner) throws(JSONError) in
            switch key {
            case "channel": request.channel = try scanner.string()
            case "token": request.token = try scanner.string()
            case "recover": request.recover = try scanner.bool()
            case "offset": request.offset = try scanner.integer()
            case "epoch": request.epoch = try scanner.string()
            case "data": request.data = scanner.raw(try scanner.skipValue())
            case "positioned": request.positioned = try scanner.bool()
            case "recoverable": request.recoverable = try scanner.bool()
            case "join_leave": request.joinLeave = try scanner.bool()
            case "delta":
                switch try scanner.string() {
                case "": request.delta = false
                case "fossil": request.delta = true
                default: throw scanner.malformed
                }
            case "tf":
                try scanner.skipValue()
                request.hasTagFilter = true
            case "flag": request.flag = try scanner.integer()
            case "type": request.type = try scanner.integer()
            default: try scanner.skipValue()
            }
        }
        return request
    }

    private mutating func historyRequest() throws(JSONError) -> CommandBody {
        var channel = ""
        var limit: Int32 = 0
        var since: StreamPosition?
        var reverse = false
        try self.members { (key, scanner) throws(JSONError) in
            switch key {
            case "channel": channel = try scanner.string()
            case "limit": limit = try scanner.integer()
            case "since":
                var position = StreamPosition(offset: 0, epoch: "")
                try scanner.members { (key, scanner) throws(JSONError) in
                    switch key {
                    case "offset": position.offset = try scanner.integer()
                    case "epoch": position.epoch = try scanner.string()
                    default: try scanner.skipValue()
                    }
                }
                since = position
            case "reverse": reverse = try scanner.bool()
            default: try scanner.skipValue()
            }
        }
        return .history(channel: channel, filter: HistoryFilter(limit: Int(limit), since: since, reverse: reverse))
    }

    /// Calls `body` for each member of the next object, to take the value. A member that is null is absent, except that
    /// null is a payload like any other.
    private mutating func members(
        _ body: (JSONKey, inout JSONScanner) throws(JSONError) -> Void
    ) throws(JSONError) {
        var isFirst = true
        try self.beginObject()
        while let key = try self.nextKey(isFirst: &isFirst) {
            if case "data" = key {
            } else if try self.skipNull() {
                continue
            }
            try body(key, &self)
        }
    }
}

extension CommandBody {
    /// Whether the command names a channel, if it must.
    var hasChannel: Bool {
        switch self {
        case .connect, .rpc, .send, .refresh, .pong, .refused: true
        case .subscribe(let request): !request.channel.isEmpty
        case .unsubscribe(let channel), .publish(let channel, _), .presence(let channel), .presenceStats(let channel),
            .history(let channel, _), .subRefresh(let channel, _):
            !channel.isEmpty
        }
    }
}
