/// Who is in the cluster, by the server's clock.
enum MembershipScripts {
    /// KEYS: view, members, leases, awaited. ARGV: node, member, lease in milliseconds, new generation, channel of changes,
    /// generation and number of the newest view that the member knows, incarnation, the server's run.
    /// Returns generation, number, and node and member in turns.
    static let heartbeat = """
        #!lua flags=allow-oom
        local time = redis.call('TIME')
        local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
        local lease = tonumber(ARGV[3])
        local view = redis.call('HMGET', KEYS[1], 'g', 'n', 'h', 'r')
        local generation, number = view[1], tonumber(view[2] or '')
        local changed = false
        if not generation or not number then
          redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
          generation, number, changed = ARGV[4], 0, true
        elseif generation == ARGV[6] and number < tonumber(ARGV[7]) then
          -- A view that was given out is lost: its number must not be given to another one.
          number, changed = tonumber(ARGV[7]), true
        end
        local last = tonumber(view[3] or '')
        local isStarted = view[4] ~= ARGV[#ARGV]
        if isStarted then
          -- Until all have told what they saw, nobody is given a slot.
          redis.call('DEL', KEYS[4])
          for _, node in ipairs(redis.call('HKEYS', KEYS[2])) do redis.call('SADD', KEYS[4], node) end
        end
        if last and (now - last > lease * 0.7 or isStarted) then
          -- The server was started again, or nobody was heard for so long: it was the server that was away, or its clock
          -- that jumped. All get a new lease, else whoever comes first would count the others out.
          for _, node in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
            redis.call('ZADD', KEYS[3], 'XX', 'GT', string.format('%.0f', now + lease), node)
          end
        end
        redis.call('HSET', KEYS[1], 'h', string.format('%.0f', now), 'r', ARGV[#ARGV])
        local known, mark = redis.call('HGET', KEYS[2], ARGV[1]), ARGV[8] .. '\\n'
        if known and string.sub(known, 1, #mark) ~= mark then
          -- Another process of this name. One that lives renews every third of its lease.
          local ends = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[1]) or '')
          if ends and ends - now > lease / 3 then
            local address = string.match(known, '^[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n(.*)$')
            return redis.error_reply('FENCED the name is in use at ' .. (address or 'another address'))
          end
        end
        if known ~= ARGV[2] then
          redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
          changed = true
        end
        redis.call('ZADD', KEYS[3], string.format('%.0f', now + lease), ARGV[1])
        redis.call('SREM', KEYS[4], ARGV[1])
        for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now))) do
          if node ~= ARGV[1] then
            redis.call('HDEL', KEYS[2], node)
            redis.call('ZREM', KEYS[3], node)
            redis.call('SREM', KEYS[4], node)
            changed = true
          end
        end
        -- A key that was lost alone: a member without a lease would never expire.
        if redis.call('HLEN', KEYS[2]) ~= redis.call('ZCARD', KEYS[3]) then
          for _, node in ipairs(redis.call('HKEYS', KEYS[2])) do
            if not redis.call('ZSCORE', KEYS[3], node) then
              redis.call('HDEL', KEYS[2], node)
              redis.call('SREM', KEYS[4], node)
              changed = true
            end
          end
        end
        if changed then
          number = number + 1
          redis.call('HSET', KEYS[1], 'g', generation, 'n', string.format('%.0f', number))
          redis.call('PUBLISH', ARGV[5], string.format('%.0f', number))
        end
        local reply = {generation, string.format('%.0f', number)}
        local members = redis.call('HGETALL', KEYS[2])
        for index = 1, #members do reply[index + 2] = members[index] end
        return reply
        """

    /// KEYS: view, members, leases, awaited. ARGV: node, incarnation, channel of changes.
    static let leave = """
        #!lua flags=allow-oom
        local member = redis.call('HGET', KEYS[2], ARGV[1])
        local mark = ARGV[2] .. '\\n'
        if not member or string.sub(member, 1, #mark) ~= mark then return 0 end
        redis.call('HDEL', KEYS[2], ARGV[1])
        redis.call('ZREM', KEYS[3], ARGV[1])
        redis.call('SREM', KEYS[4], ARGV[1])
        if redis.call('HEXISTS', KEYS[1], 'n') == 1 then redis.call('HINCRBY', KEYS[1], 'n', 1) end
        redis.call('PUBLISH', ARGV[3], 'left')
        return 1
        """
}
