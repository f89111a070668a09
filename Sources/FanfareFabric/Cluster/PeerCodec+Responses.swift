import FanfareEngines
import FanfareModel
import FanfareProtocol

private enum ResponseKind {
    static let published: UInt64 = 1
    static let history: UInt64 = 2
    static let done: UInt64 = 3
    static let presence: UInt64 = 4
    static let presenceStats: UInt64 = 5
    static let channels: UInt64 = 6
    static let info: UInt64 = 7
    static let refused: UInt64 = 9
    static let missed: UInt64 = 10
    static let online: UInt64 = 11
}

extension PeerResponse {
    var kind: UInt64 {
        switch self {
        case .published: ResponseKind.published
        case .history: ResponseKind.history
        case .done: ResponseKind.done
        case .presence: ResponseKind.presence
        case .presenceStats: ResponseKind.presenceStats
        case .channels: ResponseKind.channels
        case .info: ResponseKind.info
        case .missed: ResponseKind.missed
        case .online: ResponseKind.online
        case .refused: ResponseKind.refused
        }
    }

    func encode(into writer: inout TaggedWriter) {
        switch self {
        case .published(let appended):
            writer.field(16, appended.position)
            writer.field(17, appended.outcome.rawValue)
        case .history(let page):
            writer.field(16, page.top)
            for entry in page.entries {
                writer.field(17) { writer in
                    writer.field(1, entry.offset)
                    writer.field(2, entry.body)
                }
            }
        case .done: break
        case .presence(let clients): for client in clients { writer.field(16, client) }
        case .presenceStats(let clients, let users):
            writer.field(16, clients)
            for user in users { writer.field(17, user) }
        case .channels(let counts):
            for (channel, count) in counts.sorted(by: { $0.key < $1.key }) {
                writer.field(16) { writer in
                    writer.field(1, channel)
                    writer.field(2, count)
                }
            }
        case .info(let info): info.encode(into: &writer)
        case .missed(let missed): for users in missed { writer.field(16, users) }
        case .online(let answer):
            writer.field(16, answer.wanted)
            writer.field(17, answer.refused)
        case .refused(let refusal): refusal.encode(into: &writer)
        }
    }

    /// - Returns: nil for a kind that this version does not know.
    init?(kind: UInt64, _ fields: PeerFields) throws(EnvelopeError) {
        switch kind {
        case ResponseKind.published:
            guard let outcome = AppendedEntry.Outcome(rawValue: try fields.number(17)) else { throw .malformed }
            self = .published(AppendedEntry(position: try fields.position(16), outcome: outcome))
        case ResponseKind.history:
            var entries: [RoomHistory.Entry] = []
            for field in fields.all(17) {
                let entry = try PeerFields(field)
                entries.append(RoomHistory.Entry(offset: try entry.number(1), body: try entry.bytes(2)))
            }
            self = .history(RoomHistory(entries: entries, top: try fields.position(16)))
        case ResponseKind.done: self = .done
        case ResponseKind.presence:
            var clients: [ClientInfo] = []
            for field in fields.all(16) { clients.append(try PeerFields.clientInfo(field)) }
            self = .presence(clients)
        case ResponseKind.presenceStats:
            var users: [UInt64] = []
            for field in fields.all(17) { users.append(try field.number()) }
            self = .presenceStats(clients: try fields.int(16), users: users)
        case ResponseKind.channels:
            var counts: [String: Int] = [:]
            for field in fields.all(16) {
                let pair = try PeerFields(field)
                counts[try pair.string(1)] = try pair.int(2)
            }
            self = .channels(counts)
        case ResponseKind.info: self = .info(try NodeInfo(fields))
        case ResponseKind.missed:
            var missed: [[UserKey]] = []
            for field in fields.all(16) { missed.append(try field.users()) }
            self = .missed(missed)
        case ResponseKind.online:
            self = .online(OnlineAnswer(wanted: try fields.shards(16), refused: try fields.shards(17)))
        case ResponseKind.refused: self = .refused(try RoomRefusal(fields))
        default: return nil
        }
    }
}

extension NodeInfo {
    fileprivate func encode(into writer: inout TaggedWriter) {
        writer.field(16, self.node.rawValue)
        writer.field(17, self.incarnation)
        writer.field(18, self.version)
        writer.field(19, self.state.rawValue)
        writer.field(20, self.slots)
        writer.field(21, self.sessions)
        writer.field(22, self.users)
        writer.field(23, self.subscriptions)
        writer.field(24, self.channels)
        writer.field(25, self.rooms)
        writer.field(26, self.uptimeSeconds)
    }

    fileprivate init(_ fields: PeerFields) throws(EnvelopeError) {
        self.init(
            node: NodeID(try fields.string(16)), incarnation: try fields.string(17), version: try fields.string(18),
            state: Member.State(rawValue: try fields.string(19)) ?? .active, slots: try fields.int(20),
            sessions: try fields.int(21), users: try fields.int(22), subscriptions: try fields.int(23),
            channels: try fields.int(24), rooms: try fields.int(25), uptimeSeconds: try fields.int(26))
    }
}

extension RoomRefusal {
    fileprivate func encode(into writer: inout TaggedWriter) {
        switch self {
        case .moved: writer.field(16, UInt64(1))
        case .unavailable: writer.field(16, UInt64(2))
        case .unknownOutcome: writer.field(16, UInt64(3))
        case .overloaded: writer.field(16, UInt64(4))
        case .refused(let error):
            writer.field(16, UInt64(5))
            writer.field(17, UInt64(error.code))
            writer.field(18, error.message)
            writer.field(19, error.isTemporary)
        }
    }

    fileprivate init(_ fields: PeerFields) throws(EnvelopeError) {
        switch try fields.number(16) {
        case 1: self = .moved
        case 2: self = .unavailable
        case 3: self = .unknownOutcome
        case 4: self = .overloaded
        case 5:
            guard let code = UInt32(exactly: try fields.number(17)) else { throw .malformed }
            self = .refused(
                FanfareError(code: code, message: try fields.string(18), isTemporary: try fields.number(19) != 0))
        default: self = .refused(.notAvailable)
        }
    }
}
