/// Who may write to a slot.
enum FenceScripts {
    /// The first lines of every script that writes to a slot: KEYS[1] is the fence, ARGV[1] and ARGV[2] are the
    /// generation and the number that the caller holds. A fence that is gone is refused too, and one that was not claimed
    /// since the server was started: it may have come back from before another node's claim.
    static let check = """
        local fence = redis.call('HMGET', KEYS[1], 'g', 'n', 'r')
        if fence[1] ~= ARGV[1] or fence[2] ~= ARGV[2] then
          return redis.error_reply('FENCED the current fence is ' .. (fence[2] or 'absent'))
        end
        if fence[3] ~= ARGV[#ARGV] then
          return redis.error_reply('FENCED the fence was not claimed since the server was started')
        end
        """

    /// KEYS: fence, view, awaited. ARGV: generation, view number, node, incarnation, number of the fence that the caller
    /// holds (empty: none), the server's run. Returns the fence's number.
    ///
    /// The number is at least the view's: where a fence was lost, its number is not given to another owner again. Nothing
    /// is given until every member was heard since the server was started: the view is then above all that anyone saw.
    static let claim = """
        #!lua flags=allow-oom
        local current = redis.call('HMGET', KEYS[2], 'g', 'n', 'r')
        if current[1] ~= ARGV[1] then
          return redis.error_reply('FENCED the view is not of the current generation')
        end
        local view, run = tonumber(ARGV[2]), ARGV[#ARGV]
        if view < (tonumber(current[2] or '') or 0) then
          return redis.error_reply('FENCED the current view is ' .. current[2])
        end
        if current[3] ~= run or redis.call('EXISTS', KEYS[3]) == 1 then
          return redis.error_reply('FENCED not all members were heard since the server was started')
        end
        local stored = redis.call('HMGET', KEYS[1], 'g', 'n', 'v', 'o', 'i', 'r')
        local number = 1
        if stored[1] == ARGV[1] then
          local claimed = tonumber(stored[3] or '') or 0
          number = tonumber(stored[2] or '') or 0
          if stored[4] == ARGV[3] and stored[5] == ARGV[4] then
            if stored[6] == run or ARGV[5] == stored[2] then
              redis.call('HSET', KEYS[1], 'v', string.format('%.0f', math.max(claimed, view)), 'r', run)
              return stored[2]
            end
          elseif claimed > view then
            return redis.error_reply('FENCED the slot was claimed under view ' .. stored[3])
          else
            number = number + 1
          end
        end
        number = string.format('%.0f', math.max(number, view))
        redis.call('HSET', KEYS[1], 'g', ARGV[1], 'n', number, 'v', ARGV[2], 'o', ARGV[3], 'i', ARGV[4], 'r', run)
        return number
        """
}
