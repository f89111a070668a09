/// A room's log: a hash with epoch, top, bytes and the server's run when it was written last, and a list with the bodies. Entries are contiguous and end at the top,
/// so their offsets follow from their places.
///
/// Bytes of memory per room on Redis 7.0 (`MEMORY USAGE`, bodies of 100 bytes): see docs/engines.md.
enum RoomScripts {
    /// KEYS: fence, meta, history. ARGV: fence, new epoch, empty room's time in milliseconds.
    /// Returns epoch, top, the bodies, and 1 where the server's run is another one than when the room was written.
    static let open = """
        #!lua
        \(FenceScripts.check)
        local meta = redis.call('HMGET', KEYS[2], 'e', 's', 'r')
        if not meta[1] or not meta[2] then
          redis.call('DEL', KEYS[3])
          redis.call('HSET', KEYS[2], 'e', ARGV[3], 's', '0', 'b', '0', 'r', ARGV[5])
          redis.call('PEXPIRE', KEYS[2], ARGV[4])
          return {ARGV[3], '0', {}, 0}
        end
        if meta[2] == '0' then redis.call('PEXPIRE', KEYS[2], ARGV[4]) end
        local bodies = redis.call('LRANGE', KEYS[3], 0, -1)
        return {meta[1], meta[2], bodies, meta[3] == ARGV[5] and 0 or 1}
        """

    /// KEYS: meta, history. ARGV: since (empty: the position alone), limit.
    /// Returns nil, or epoch, top, the offset of the first body (0: none) and the bodies.
    static let read = """
        #!lua flags=no-writes
        local meta = redis.call('HMGET', KEYS[1], 'e', 's')
        if not meta[1] or not meta[2] then return false end
        if ARGV[1] == '' then return {meta[1], meta[2], '0', {}} end
        local length = redis.call('LLEN', KEYS[2])
        local before = tonumber(meta[2]) - length
        local start = math.max(0, tonumber(ARGV[1]) - before)
        if start >= length then return {meta[1], meta[2], '0', {}} end
        local bodies = redis.call('LRANGE', KEYS[2], start, start + tonumber(ARGV[2]) - 1)
        return {meta[1], meta[2], string.format('%.0f', before + start + 1), bodies}
        """

    /// KEYS: fence, meta, history. ARGV: fence, found epoch (empty: absent), found top, new epoch, new top, bytes of the
    /// bodies, history time and position time in milliseconds, then the bodies. Returns 1, or 0 where something else is
    /// stored than what was found.
    static let restore = """
        #!lua
        \(FenceScripts.check)
        local meta = redis.call('HMGET', KEYS[2], 'e', 's')
        if ARGV[3] == '' then
          if meta[1] then return 0 end
        elseif meta[1] ~= ARGV[3] or meta[2] ~= ARGV[4] then
          return 0
        end
        redis.call('DEL', KEYS[3])
        local first, last = 10, #ARGV - 1
        while first <= last do
          local stop = math.min(first + 499, last)
          redis.call('RPUSH', KEYS[3], unpack(ARGV, first, stop))
          first = stop + 1
        end
        redis.call('HSET', KEYS[2], 'e', ARGV[5], 's', ARGV[6], 'b', ARGV[7], 'r', ARGV[#ARGV])
        redis.call('PEXPIRE', KEYS[3], ARGV[8])
        redis.call('PEXPIRE', KEYS[2], ARGV[9])
        return 1
        """

    /// KEYS: fence, meta, history. ARGV: fence.
    static let removeHistory = """
        #!lua flags=allow-oom
        \(FenceScripts.check)
        redis.call('DEL', KEYS[3])
        if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'b', '0') end
        return 1
        """
}
