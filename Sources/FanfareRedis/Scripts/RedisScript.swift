/// A Lua script, loaded into the server at each connect and called by its digest.
///
/// Scripts validate first and write last: an error half way would leave what was written before. The first line makes the
/// server (7.0 or newer) refuse the whole script where memory is full, unless `allow-oom` says otherwise. Numbers become
/// text by `%.0f`: Lua's own way of writing them loses digits from 10^14.
///
/// The last argument of every call is the server's run: another one after each start of a server and after each failover.
struct RedisScript: Sendable, Hashable {
    let name: String
    let source: String
    /// Its place in `all`.
    let index: Int

    private init(_ index: Int, _ name: String, _ source: String) {
        self.index = index
        self.name = name
        self.source = source
    }

    static let heartbeat = RedisScript(0, "heartbeat", MembershipScripts.heartbeat)
    static let leave = RedisScript(1, "leave", MembershipScripts.leave)
    static let claim = RedisScript(2, "claim", FenceScripts.claim)
    static let open = RedisScript(3, "open", RoomScripts.open)
    static let append = RedisScript(4, "append", AppendScript.append)
    static let restore = RedisScript(5, "restore", RoomScripts.restore)
    static let read = RedisScript(6, "read", RoomScripts.read)
    static let removeHistory = RedisScript(7, "removeHistory", RoomScripts.removeHistory)

    static let all = [heartbeat, leave, claim, open, append, restore, read, removeHistory]
}
