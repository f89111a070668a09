import FanfareEngines
import FanfareModel
import FanfareProtocol

private enum RequestKind {
    static let publish: UInt64 = 1
    static let history: UInt64 = 2
    static let removeHistory: UInt64 = 3
    static let presence: UInt64 = 4
    static let presenceStats: UInt64 = 5
    static let channels: UInt64 = 6
    static let info: UInt64 = 7
    static let sessions: UInt64 = 8
    static let notice: UInt64 = 10
    static let wakeShards: UInt64 = 11
    static let drain: UInt64 = 12
    static let inboxPushes: UInt64 = 13
    static let doubtInboxes: UInt64 = 14
    static let onlineAnnouncements: UInt64 = 15
    static let onlineDigests: UInt64 = 16
    static let preferencesChanged: UInt64 = 17
}

extension PeerRequest {
    var kind: UInt64 {
        switch self {
        case .publish: RequestKind.publish
        case .history: RequestKind.history
        case .removeHistory: RequestKind.removeHistory
        case .presence: RequestKind.presence
        case .presenceStats: RequestKind.presenceStats
        case .channels: RequestKind.channels
        case .info: RequestKind.info
        case .sessions: RequestKind.sessions
        case .inboxPushes: RequestKind.inboxPushes
        case .doubtInboxes: RequestKind.doubtInboxes
        case .onlineAnnouncements: RequestKind.onlineAnnouncements
        case .onlineDigests: RequestKind.onlineDigests
        case .notice: RequestKind.notice
        case .preferencesChanged: RequestKind.preferencesChanged
        case .wakeShards: RequestKind.wakeShards
        case .drain: RequestKind.drain
        }
    }

    func encode(into writer: inout TaggedWriter) {
        switch self {
        case .publish(let room, let entry):
            writer.field(16, room)
            writer.field(17, entry.body)
            if let key = entry.idempotencyKey { writer.field(18, key) }
            if entry.requiresKnownKey { writer.field(19, true) }
            if let version = entry.version {
                writer.field(20, version.number)
                writer.field(21, version.epoch)
            }
        case .history(let room, let filter):
            writer.field(16, room)
            writer.field(17, filter.limit)
            if let since = filter.since { writer.field(18, since) }
            writer.field(19, filter.reverse)
        case .removeHistory(let room): writer.field(16, room)
        case .presence(let channel), .presenceStats(let channel): writer.field(16, channel)
        case .channels(let pattern): if let pattern { writer.field(16, pattern) }
        case .info, .drain: break
        case .sessions(let command): command.encode(into: &writer)
        case .inboxPushes(let pushes, let links):
            for push in pushes { writer.field(16, push) }
            for link in links { writer.field(17, link) }
        case .onlineAnnouncements(let announcements):
            for announcement in announcements { writer.field(16, announcement) }
        case .onlineDigests(let digests): for digest in digests { writer.field(16, digest) }
        case .notice(let push, let user, let client), .preferencesChanged(let push, let user, let client):
            writer.field(16, push)
            writer.field(17, user.rawValue)
            if let client { writer.field(18, client.rawValue) }
        case .wakeShards(let shards), .doubtInboxes(let shards): writer.field(16, shards)
        }
    }

    /// - Returns: nil for a kind that this version does not know.
    init?(kind: UInt64, _ fields: PeerFields) throws(EnvelopeError) {
        switch kind {
        case RequestKind.publish:
            var entry = AppendEntry(
                body: try fields.bytes(17), idempotencyKey: try fields.optionalString(18),
                requiresKnownKey: try fields.optionalNumber(19) ?? 0 != 0)
            if let number = try fields.optionalNumber(20) {
                entry.version = PublicationVersion(number: number, epoch: try fields.string(21))
            }
            self = .publish(room: try fields.string(16), entry)
        case RequestKind.history:
            self = .history(
                room: try fields.string(16),
                HistoryFilter(
                    limit: try fields.int(17), since: try fields.optionalPosition(18),
                    reverse: try fields.number(19) != 0))
        case RequestKind.removeHistory: self = .removeHistory(room: try fields.string(16))
        case RequestKind.presence: self = .presence(channel: try fields.string(16))
        case RequestKind.presenceStats: self = .presenceStats(channel: try fields.string(16))
        case RequestKind.channels: self = .channels(pattern: try fields.optionalString(16))
        case RequestKind.info: self = .info
        case RequestKind.sessions: self = .sessions(try SessionCommand(fields))
        case RequestKind.inboxPushes: self = .inboxPushes(try fields.pushes(16), try fields.links(17))
        case RequestKind.doubtInboxes: self = .doubtInboxes(try fields.shards(16))
        case RequestKind.onlineAnnouncements: self = .onlineAnnouncements(try fields.announcements(16))
        case RequestKind.onlineDigests: self = .onlineDigests(try fields.digests(16))
        case RequestKind.notice:
            self = .notice(
                try fields.push(16), user: try fields.user(17),
                except: try fields.optionalString(18).map(ClientID.init))
        case RequestKind.preferencesChanged:
            self = .preferencesChanged(
                try fields.push(16), user: try fields.user(17),
                except: try fields.optionalString(18).map(ClientID.init))
        case RequestKind.wakeShards: self = .wakeShards(try fields.shards(16))
        case RequestKind.drain: self = .drain
        default: return nil
        }
    }
}

extension SessionCommand {
    private enum ActionKind {
        static let subscribe: UInt64 = 1
        static let unsubscribe: UInt64 = 2
        static let disconnect: UInt64 = 3
        static let expire: UInt64 = 4
        static let prolong: UInt64 = 5
    }

    fileprivate func encode(into writer: inout TaggedWriter) {
        writer.field(16, self.sessions.user.rawValue)
        if let client = self.sessions.client { writer.field(17, client.rawValue) }
        for client in self.sessions.except { writer.field(18, client.rawValue) }
        switch self.action {
        case .subscribe(let channel, let since, let info, let data):
            writer.field(19, ActionKind.subscribe)
            writer.field(20, channel)
            if let since { writer.field(21, since) }
            if !info.isEmpty { writer.field(25, info) }
            if !data.isEmpty { writer.field(26, data) }
        case .unsubscribe(let channel):
            writer.field(19, ActionKind.unsubscribe)
            writer.field(20, channel)
        case .disconnect(let disconnect):
            writer.field(19, ActionKind.disconnect)
            writer.field(22, UInt64(disconnect.code))
            writer.field(23, disconnect.reason)
        case .refresh(.expired): writer.field(19, ActionKind.expire)
        case .refresh(.until(let time)):
            writer.field(19, ActionKind.prolong)
            if let time { writer.field(24, signed: time) }
        }
    }

    fileprivate init(_ fields: PeerFields) throws(EnvelopeError) {
        var except: [ClientID] = []
        for field in fields.all(18) { except.append(ClientID(try field.string())) }
        let sessions = SessionSelector(
            user: try fields.user(16), client: try fields.optionalString(17).map(ClientID.init), except: except)
        let action: SessionCommand.Action
        switch try fields.number(19) {
        case ActionKind.subscribe:
            action = .subscribe(
                channel: try fields.string(20), recoverSince: try fields.optionalPosition(21),
                info: fields.optional(25)?.data ?? [], data: fields.optional(26)?.data ?? [])
        case ActionKind.unsubscribe: action = .unsubscribe(channel: try fields.string(20))
        case ActionKind.disconnect:
            guard let code = UInt16(exactly: try fields.number(22)) else { throw .malformed }
            action = .disconnect(Disconnect(code: code, reason: try fields.string(23)))
        case ActionKind.expire: action = .refresh(.expired)
        case ActionKind.prolong: action = .refresh(.until(try fields.optional(24)?.signed()))
        default: throw .malformed
        }
        self.init(sessions: sessions, action: action)
    }
}
