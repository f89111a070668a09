import FanfareEngines
import FanfareModel
import FanfareProtocol

extension TaggedWriter {
    /// Keys as differences to the one before: two or three bytes each where they are sorted.
    mutating func field(_ tag: UInt64, _ users: some Sequence<UserKey>) {
        var bytes = Bytes()
        var last: UInt64 = 0
        for user in users {
            let key = UInt64(bitPattern: user.rawValue)
            Varint.append(key &- last, to: &bytes)
            last = key
        }
        self.field(tag, bytes)
    }

    mutating func field(_ tag: UInt64, _ shards: [Shard]) {
        for shard in shards { self.field(tag, shard.index) }
    }

    mutating func field(_ tag: UInt64, _ announcement: OnlineAnnouncement) {
        self.field(tag) { writer in
            writer.field(1, announcement.shard.index)
            if let base = announcement.base { writer.field(2, base) }
            writer.field(3, announcement.version)
            if !announcement.joins.isEmpty { writer.field(4, announcement.joins) }
            if !announcement.leaves.isEmpty { writer.field(5, announcement.leaves) }
        }
    }

    mutating func field(_ tag: UInt64, _ digest: OnlineDigest) {
        self.field(tag) { writer in
            writer.field(1, digest.shard.index)
            writer.field(2, digest.version)
            writer.field(3, digest.summary.count)
            writer.field(4, digest.summary.fold)
        }
    }

    mutating func field(_ tag: UInt64, _ link: PushLink) {
        self.field(tag) { writer in
            writer.field(1, link.shard.index)
            writer.field(2, link.chain)
            writer.field(3, link.index)
        }
    }

    /// The event once; recipients as runs of one sequence, which is how the fan-out has them.
    mutating func field(_ tag: UInt64, _ push: FanoutPush) {
        self.field(tag) { writer in
            writer.field(1, signed: push.event.rawValue)
            writer.field(2, push.type)
            writer.field(3, push.data)
            writer.field(4, signed: push.createdAt.milliseconds)
            if let streamer = push.streamer { writer.field(6, streamer.rawValue) }
            if let expiresAt = push.expiresAt { writer.field(7, signed: expiresAt.milliseconds) }
            if push.isStale { writer.field(8, true) }
            var rest = push.recipients[...]
            while let first = rest.first {
                let run = rest.prefix { $0.sequence == first.sequence }
                rest = rest.dropFirst(run.count)
                writer.field(5) { writer in
                    writer.field(1, first.sequence)
                    writer.field(2, run.lazy.map(\.user))
                }
            }
        }
    }
}

extension PeerFields {
    func users(_ tag: UInt64) throws(EnvelopeError) -> [UserKey] {
        guard let field = self.optional(tag) else { return [] }
        return try field.users()
    }

    func shard(_ tag: UInt64) throws(EnvelopeError) -> Shard { try self.required(tag).shard() }

    func shards(_ tag: UInt64) throws(EnvelopeError) -> [Shard] {
        var shards: [Shard] = []
        for field in self.all(tag) { shards.append(try field.shard()) }
        return shards
    }

    func announcements(_ tag: UInt64) throws(EnvelopeError) -> [OnlineAnnouncement] {
        var announcements: [OnlineAnnouncement] = []
        for field in self.all(tag) {
            let fields = try PeerFields(field)
            announcements.append(
                OnlineAnnouncement(
                    shard: try fields.shard(1), base: try fields.optionalNumber(2), version: try fields.number(3),
                    joins: try fields.users(4), leaves: try fields.users(5)))
        }
        return announcements
    }

    func digests(_ tag: UInt64) throws(EnvelopeError) -> [OnlineDigest] {
        var digests: [OnlineDigest] = []
        for field in self.all(tag) {
            let fields = try PeerFields(field)
            digests.append(
                OnlineDigest(
                    shard: try fields.shard(1), version: try fields.number(2),
                    summary: UserSummary(count: try fields.number(3), fold: try fields.number(4))))
        }
        return digests
    }

    func links(_ tag: UInt64) throws(EnvelopeError) -> [PushLink] {
        var links: [PushLink] = []
        for field in self.all(tag) {
            let fields = try PeerFields(field)
            links.append(
                PushLink(shard: try fields.shard(1), chain: try fields.number(2), index: try fields.number(3)))
        }
        return links
    }

    func pushes(_ tag: UInt64) throws(EnvelopeError) -> [FanoutPush] {
        var pushes: [FanoutPush] = []
        for field in self.all(tag) {
            let fields = try PeerFields(field)
            var push = FanoutPush(
                event: EventID(try fields.required(1).signed()), type: try fields.string(2),
                data: try fields.bytes(3), createdAt: Timestamp(milliseconds: try fields.required(4).signed()),
                recipients: [])
            if fields.optional(6) != nil { push.streamer = try fields.user(6) }
            push.isStale = try fields.optionalNumber(8) ?? 0 != 0
            if let expiresAt = fields.optional(7) { push.expiresAt = Timestamp(milliseconds: try expiresAt.signed()) }
            for field in fields.all(5) {
                let run = try PeerFields(field)
                let sequence = try run.number(1)
                for user in try run.users(2) { push.recipients.append(.init(user, sequence: sequence)) }
            }
            pushes.append(push)
        }
        return pushes
    }
}

extension TaggedReader.Field {
    func users() throws(EnvelopeError) -> [UserKey] {
        var users: [UserKey] = []
        var last: UInt64 = 0
        var reader = self.fields
        while !reader.isAtEnd {
            last &+= try reader.header()
            users.append(UserKey(Int64(bitPattern: last)))
        }
        return users
    }

    func shard() throws(EnvelopeError) -> Shard {
        let index = try self.number()
        guard index < UInt64(Shard.count) else { throw .malformed }
        return Shard(index: Int(index))
    }
}
