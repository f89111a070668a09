import FanfareModel

/// The names of keys and channels. All keys of a slot share a hash tag, so that one script may touch them; `view`,
/// `members`, `leases` and `awaited` share another one.
struct RedisKeys: Sendable {
    private let prefix: String
    /// Channels know no database numbers: the name keeps those of different databases apart.
    private let channelPrefix: String

    init(prefix: String, database: Int) {
        self.prefix = prefix
        self.channelPrefix = database == 0 ? prefix : "\(prefix)/\(database)"
    }

    /// Whether a hash tag that follows the prefix is the first one, and names stay readable.
    static func isValid(prefix: String) -> Bool {
        (1...32).contains(prefix.utf8.count)
            && prefix.utf8.allSatisfy {
                (0x21...0x7e).contains($0) && $0 != UInt8(ascii: "{") && $0 != UInt8(ascii: "}")
            }
    }

    // MARK: Membership

    /// Hash: `g` generation, `n` number, `h` when a member was heard last, `r` the server's run then.
    var view: String { "\(self.prefix):{\(self.prefix)}:view" }
    /// Hash: node → member.
    var members: String { "\(self.prefix):{\(self.prefix)}:members" }
    /// Sorted set: node by the end of its lease, in milliseconds of the server's clock.
    var leases: String { "\(self.prefix):{\(self.prefix)}:leases" }
    /// Set: members that were not heard since the server was started.
    var awaited: String { "\(self.prefix):{\(self.prefix)}:awaited" }

    // MARK: Slots and rooms

    /// Hash: `g` generation, `n` number, `v` view, `o` owner, `i` incarnation, `r` the server's run when it was claimed last.
    func fence(_ slot: Slot) -> String { "\(self.prefix):{\(slot)}:fence" }
    /// Hash: `e` epoch, `s` top offset, `b` bytes of the history, `r` the server's run when it was written last.
    func meta(_ room: String, _ slot: Slot) -> String { "\(self.prefix):{\(slot)}:r:\(room):m" }
    /// List: the bodies, oldest first; the last one has the top offset.
    func history(_ room: String, _ slot: Slot) -> String { "\(self.prefix):{\(slot)}:r:\(room):h" }
    /// String: `<offset>:<epoch>` of the first publication with this key. The length keeps rooms and keys that contain
    /// colons apart.
    func idempotency(_ room: String, _ key: String, _ slot: Slot) -> String {
        "\(self.prefix):{\(slot)}:i:\(room.utf8.count):\(room):\(key)"
    }

    // MARK: Channels

    func roomChannel(_ room: String, _ slot: Slot) -> String { "\(self.channelPrefix):{\(slot)}:c:\(room)" }
    func inboxChannel(_ node: NodeID) -> String { "\(self.channelPrefix):n:\(node)" }
    var allChannel: String { "\(self.channelPrefix):all" }
    var viewChannel: String { "\(self.channelPrefix):view" }
    /// - Parameter link: random, one per broker.
    func probeChannel(_ link: String) -> String { "\(self.channelPrefix):probe:\(link)" }
}
