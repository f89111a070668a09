package import FanfareModel

/// A publication as logs and nodes carry it: a version, then tagged fields. The offset is not in it: the log gives it.
package enum PublicationBody {
    /// Layouts above this one are refused; fields that this version does not know are skipped.
    package static let version: UInt64 = 1

    private enum Tag {
        static let data: UInt64 = 1
        static let user: UInt64 = 2
        static let client: UInt64 = 3
        static let connectionInfo: UInt64 = 4
        static let channelInfo: UInt64 = 5
        static let tag: UInt64 = 6
        static let time: UInt64 = 7
        static let key: UInt64 = 1
        static let value: UInt64 = 2
    }

    package static func encode(_ publication: Publication) -> Bytes {
        var writer = TaggedWriter(reserving: publication.data.count + 64)
        writer.header(self.version)
        writer.field(Tag.data, publication.data)
        if let info = publication.info {
            writer.field(Tag.user, info.user.rawValue)
            writer.field(Tag.client, info.client.rawValue)
            if !info.connectionInfo.isEmpty { writer.field(Tag.connectionInfo, info.connectionInfo) }
            if !info.channelInfo.isEmpty { writer.field(Tag.channelInfo, info.channelInfo) }
        }
        for (key, value) in publication.tags.sorted(by: { $0.key < $1.key }) {
            writer.field(Tag.tag) { tag in
                tag.field(Tag.key, key)
                tag.field(Tag.value, value)
            }
        }
        if publication.time != 0 { writer.field(Tag.time, signed: publication.time) }
        return writer.bytes
    }

    package static func decode(_ body: Bytes) throws(EnvelopeError) -> Publication {
        var reader = TaggedReader(body)
        let version = try reader.header()
        guard version <= self.version else { throw .newerVersion(version) }
        var publication = Publication(data: [])
        var user: String?
        var client: String?
        var connectionInfo = Bytes()
        var channelInfo = Bytes()
        while let field = try reader.next() {
            switch field.tag {
            case Tag.data: publication.data = field.data
            case Tag.user: user = try field.string()
            case Tag.client: client = try field.string()
            case Tag.connectionInfo: connectionInfo = field.data
            case Tag.channelInfo: channelInfo = field.data
            case Tag.tag:
                var pair = field.fields
                var key: String?
                var value = ""
                while let part = try pair.next() {
                    if part.tag == Tag.key { key = try part.string() }
                    if part.tag == Tag.value { value = try part.string() }
                }
                guard let key else { throw .malformed }
                publication.tags[key] = value
            case Tag.time: publication.time = try field.signed()
            default: continue
            }
        }
        if let client {
            publication.info = ClientInfo(
                user: UserID(unchecked: user ?? ""), client: ClientID(client), connectionInfo: connectionInfo,
                channelInfo: channelInfo)
        }
        return publication
    }
}
