/// Who may write to a slot.
enum FenceScripts {
    /// The first lines of every script that writes to a slot: KEYS[1] is the fence, ARGV[1] and ARGV[2] are the
    /// generation and the number that the caller holds. A fence that is gone is refused too.
    static let check = """
        local fence = redis.call('HMGET', KEYS[1], 'g', 'n')
        if fence[1] ~= ARGV[1] or fence[2] ~= ARGV[2] then
          return redis.error_reply('FENCED the current fence is ' .. (fence[2] or 'absent'))
        end
        """

    /// KEYS: fence, view. ARGV: generation, view number, node, incarnation. Returns the fence's number.
    ///
    /// The number is at least the view's: where a fence was lost alone, its number is not given to another owner again.
    static let claim = """
        #!lua flags=allow-oom
        if redis.call('HGET', KEYS[2], 'g') ~= ARGV[1] then
          return redis.error_reply('FENCED the view is not of the current generation')
        end
        local stored = redis.call('HMGET', KEYS[1], 'g', 'n', 'v', 'o', 'i')
        local view, number = tonumber(ARGV[2]), 0
        if stored[1] then
          local claimed = tonumber(stored[3] or '') or 0
          if stored[1] == ARGV[1] then
            if stored[4] == ARGV[3] and stored[5] == ARGV[4] then
              if claimed < view then redis.call('HSET', KEYS[1], 'v', ARGV[2]) end
              return stored[2]
            end
            if claimed > view then
              return redis.error_reply('FENCED the slot was claimed under view ' .. stored[3])
            end
          end
          number = tonumber(stored[2] or '') or 0
        end
        number = string.format('%.0f', math.max(number + 1, view))
        redis.call('HSET', KEYS[1], 'g', ARGV[1], 'n', number, 'v', ARGV[2], 'o', ARGV[3], 'i', ARGV[4])
        return number
        """
}
