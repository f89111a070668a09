import FanfareEngines
package import FanfareModel
package import FanfareProtocol

/// A message between two nodes.
///
/// Layout: version, kind (bare numbers), then tagged fields. A version above `PeerMessage.version` is refused; within a
/// version unknown fields are skipped, and an unknown request is answered with 108.
package enum PeerMessage: Sendable, Hashable {
    case request(id: UInt64, from: NodeID, incarnation: String, PeerRequest)
    /// - Parameter to: the incarnation that asked.
    case response(id: UInt64, to: String, PeerResponse)
    /// A request of a kind that this version does not know.
    case unreadable(id: UInt64, from: NodeID, incarnation: String)

    package static let version: UInt64 = 1

    private enum Kind {
        static let request: UInt64 = 1
        static let response: UInt64 = 2
    }

    /// Tags of the message; those of what it carries begin at 16.
    private enum Tag {
        static let id: UInt64 = 1
        static let sender: UInt64 = 2
        static let incarnation: UInt64 = 3
        static let what: UInt64 = 4
    }

    package func encoded() -> Bytes {
        var writer = TaggedWriter(reserving: 256)
        writer.header(PeerMessage.version)
        switch self {
        case .request(let id, let sender, let incarnation, let request):
            writer.header(Kind.request)
            writer.field(Tag.id, id)
            writer.field(Tag.sender, sender.rawValue)
            writer.field(Tag.incarnation, incarnation)
            writer.field(Tag.what, request.kind)
            request.encode(into: &writer)
        case .response(let id, let incarnation, let response):
            writer.header(Kind.response)
            writer.field(Tag.id, id)
            writer.field(Tag.incarnation, incarnation)
            writer.field(Tag.what, response.kind)
            response.encode(into: &writer)
        case .unreadable:
            break
        }
        return writer.bytes
    }

    /// - Throws: `.newerVersion` for a layout of a newer version, `.malformed` for anything else that cannot be read.
    package static func decode(_ bytes: Bytes) throws(EnvelopeError) -> PeerMessage {
        var reader = TaggedReader(bytes)
        let version = try reader.header()
        guard version <= self.version else { throw .newerVersion(version) }
        let kind = try reader.header()
        let fields = try PeerFields(&reader)
        let id = try fields.number(Tag.id)
        let incarnation = try fields.string(Tag.incarnation)
        let what = try fields.number(Tag.what)
        switch kind {
        case Kind.request:
            let sender = NodeID(try fields.string(Tag.sender))
            guard let request = try PeerRequest(kind: what, fields) else {
                return .unreadable(id: id, from: sender, incarnation: incarnation)
            }
            return .request(id: id, from: sender, incarnation: incarnation, request)
        case Kind.response:
            // An answer of an unknown kind is an answer that says nothing.
            let response = try PeerResponse(kind: what, fields) ?? .refused(.refused(.notAvailable))
            return .response(id: id, to: incarnation, response)
        default:
            throw .malformed
        }
    }
}

/// The fields of one message by tag; of a tag that repeats all are kept.
struct PeerFields {
    private var fields: [UInt64: [TaggedReader.Field]] = [:]

    init(_ reader: inout TaggedReader) throws(EnvelopeError) {
        while let field = try reader.next() { self.fields[field.tag, default: []].append(field) }
    }

    init(_ field: TaggedReader.Field) throws(EnvelopeError) {
        var reader = field.fields
        try self.init(&reader)
    }

    func all(_ tag: UInt64) -> [TaggedReader.Field] { self.fields[tag] ?? [] }
    func optional(_ tag: UInt64) -> TaggedReader.Field? { self.fields[tag]?.last }
    func has(_ tag: UInt64) -> Bool { self.fields[tag] != nil }

    func required(_ tag: UInt64) throws(EnvelopeError) -> TaggedReader.Field {
        guard let field = self.optional(tag) else { throw .malformed }
        return field
    }

    func number(_ tag: UInt64) throws(EnvelopeError) -> UInt64 { try self.required(tag).number() }
    func string(_ tag: UInt64) throws(EnvelopeError) -> String { try self.required(tag).string() }
    func bytes(_ tag: UInt64) throws(EnvelopeError) -> Bytes { try self.required(tag).data }

    func int(_ tag: UInt64) throws(EnvelopeError) -> Int {
        guard let value = Int(exactly: try self.required(tag).signed()) else { throw .malformed }
        return value
    }

    func optionalString(_ tag: UInt64) throws(EnvelopeError) -> String? {
        guard let field = self.optional(tag) else { return nil }
        return try field.string()
    }

    func optionalNumber(_ tag: UInt64) throws(EnvelopeError) -> UInt64? {
        guard let field = self.optional(tag) else { return nil }
        return try field.number()
    }

    func user(_ tag: UInt64) throws(EnvelopeError) -> UserID { UserID(unchecked: try self.string(tag)) }
}

extension TaggedWriter {
    mutating func field(_ tag: UInt64, _ value: Int) { self.field(tag, signed: Int64(value)) }

    mutating func field(_ tag: UInt64, _ position: StreamPosition) {
        self.field(tag) { writer in
            writer.field(1, position.offset)
            writer.field(2, position.epoch)
        }
    }

    mutating func field(_ tag: UInt64, _ info: ClientInfo) {
        self.field(tag) { writer in
            writer.field(1, info.user.rawValue)
            writer.field(2, info.client.rawValue)
            writer.field(3, info.connectionInfo)
            writer.field(4, info.channelInfo)
        }
    }

    mutating func field(_ tag: UInt64, _ push: InboxPush) {
        self.field(tag) { writer in
            writer.field(1, push.sequence)
            writer.field(2, push.payload)
        }
    }
}

extension PeerFields {
    func position(_ tag: UInt64) throws(EnvelopeError) -> StreamPosition {
        let fields = try PeerFields(self.required(tag))
        return StreamPosition(offset: try fields.number(1), epoch: try fields.string(2))
    }

    func optionalPosition(_ tag: UInt64) throws(EnvelopeError) -> StreamPosition? {
        self.has(tag) ? try self.position(tag) : nil
    }

    func push(_ tag: UInt64) throws(EnvelopeError) -> InboxPush {
        let fields = try PeerFields(self.required(tag))
        return InboxPush(sequence: try fields.number(1), payload: try fields.bytes(2))
    }

    static func clientInfo(_ field: TaggedReader.Field) throws(EnvelopeError) -> ClientInfo {
        let fields = try PeerFields(field)
        return ClientInfo(
            user: try fields.user(1), client: ClientID(try fields.string(2)), connectionInfo: try fields.bytes(3),
            channelInfo: try fields.bytes(4))
    }
}
