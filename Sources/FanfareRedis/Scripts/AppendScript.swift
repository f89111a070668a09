/// Appends a batch to rooms of one slot and publishes it: the only place where publications get their offsets.
enum AppendScript {
    /// KEYS: fence, then per room its meta and its history, then per keyed entry (in order) its idempotency key.
    ///
    /// ARGV: fence (generation, number), number of rooms, then per room: channel, expected epoch, expected top, entries
    /// kept, bytes kept, history time, position time and idempotency window in milliseconds, number of entries, and per
    /// entry its flags (the sum of 1: has an idempotency key, 2: the key must be known, 4: has a version), its body, and
    /// where it has a version the number and the epoch of that.
    ///
    /// Returns per room {0} (nothing stored), {0, epoch, top} (another position is stored) or {1, entries}: an entry is
    /// its offset, `=<offset>:<epoch>` of the earlier publication with its key, `!<top>` for a key that is not known and
    /// had to be, or `<<top>` for a version that is not higher than the room's.
    ///
    /// A publication is published as `BatchCodec` describes. A room may come twice: `rooms` carries its position on.
    static let append = """
        #!lua
        \(FenceScripts.check)
        local roomCount = tonumber(ARGV[3])
        local argument, keyed = 4, 2 + 2 * roomCount
        local rooms, used, plan, reply = {}, {}, {}, {}

        -- The next entry's body, key (nil: none), whether that must be known, version (nil: none) and its epoch.
        local function take()
          local flags, body = tonumber(ARGV[argument]), ARGV[argument + 1]
          local key, version, versionEpoch
          argument = argument + 2
          if flags >= 4 then
            version, versionEpoch = ARGV[argument], ARGV[argument + 1]
            argument, flags = argument + 2, flags - 4
          end
          if flags % 2 == 1 then
            key = KEYS[keyed]
            keyed = keyed + 1
          end
          return body, key, flags >= 2, version, versionEpoch
        end

        -- Versions have more digits than a number of this language is exact for.
        local function isOutdated(room, version, epoch)
          if not room.version or (epoch ~= '' and epoch ~= room.versionEpoch) then return false end
          return #version < #room.version or (#version == #room.version and version <= room.version)
        end

        for index = 1, roomCount do
          local metaKey, historyKey = KEYS[2 * index], KEYS[2 * index + 1]
          local room = rooms[metaKey]
          if not room then
            local meta = redis.call('HMGET', metaKey, 'e', 's', 'b', 'v', 'w')
            room = {
              epoch = meta[1], top = meta[2], bytes = tonumber(meta[3] or '') or 0,
              version = meta[4] or nil, versionEpoch = meta[5]
            }
            if not room.epoch or not room.top then room.epoch, room.top = nil, nil end
            rooms[metaKey] = room
          end
          local entryCount = tonumber(ARGV[argument + 8])
          local matches = room.epoch == ARGV[argument + 1] and room.top == ARGV[argument + 2]
          local step = {
            room = room, meta = metaKey, history = historyKey, channel = ARGV[argument],
            count = tonumber(ARGV[argument + 3]), limit = tonumber(ARGV[argument + 4]),
            historyTime = ARGV[argument + 5], positionTime = ARGV[argument + 6], window = ARGV[argument + 7],
            bodies = {}, keys = {}
          }
          argument = argument + 9
          if matches then
            local top = tonumber(room.top)
            step.first = top + 1
            local entries = {}
            for entry = 1, entryCount do
              local body, key, mustBeKnown, version, versionEpoch = take()
              local earlier = key and (used[key] or redis.call('GET', key))
              if earlier then
                entries[entry] = '=' .. earlier
              elseif mustBeKnown then
                entries[entry] = '!' .. string.format('%.0f', top)
              elseif version and isOutdated(room, version, versionEpoch) then
                entries[entry] = '<' .. string.format('%.0f', top)
              else
                top = top + 1
                local offset = string.format('%.0f', top)
                entries[entry] = offset
                step.bodies[#step.bodies + 1] = body
                if version then
                  room.version, room.versionEpoch = version, versionEpoch
                  step.version, step.versionEpoch = version, versionEpoch
                end
                if key and step.window ~= '0' then
                  used[key] = offset .. ':' .. room.epoch
                  step.keys[#step.keys + 1] = key
                end
              end
            end
            room.top = string.format('%.0f', top)
            step.top = room.top
            if #step.bodies > 0 then plan[#plan + 1] = step end
            reply[index] = {1, entries}
          else
            for entry = 1, entryCount do take() end
            if room.epoch then reply[index] = {0, room.epoch, room.top} else reply[index] = {0} end
          end
        end

        for _, step in ipairs(plan) do
          local room, bodies = step.room, step.bodies
          local frame = {
            struct.pack('>BH', 1, #room.epoch), room.epoch, struct.pack('>I8I4', step.first, #bodies)
          }
          local added, length = 0, 0
          for index, body in ipairs(bodies) do
            frame[#frame + 1] = struct.pack('>I4', #body)
            frame[#frame + 1] = body
            added = added + #body
          end
          if step.count > 0 then
            for first = 1, #bodies, 500 do
              length = redis.call('RPUSH', step.history, unpack(bodies, first, math.min(first + 499, #bodies)))
            end
            -- The list may have expired since its bytes were counted.
            if length == #bodies then room.bytes = 0 end
            room.bytes = room.bytes + added
            while length > step.count or (room.bytes > step.limit and length > 0) do
              room.bytes = room.bytes - #redis.call('LPOP', step.history)
              length = length - 1
            end
            if length > 0 then redis.call('PEXPIRE', step.history, step.historyTime) end
          else
            redis.call('DEL', step.history)
            room.bytes = 0
          end
          redis.call('HSET', step.meta, 's', step.top, 'b', string.format('%.0f', room.bytes), 'r', ARGV[#ARGV])
          if step.version then redis.call('HSET', step.meta, 'v', step.version, 'w', step.versionEpoch) end
          redis.call('PEXPIRE', step.meta, step.positionTime)
          for _, key in ipairs(step.keys) do redis.call('SET', key, used[key], 'PX', step.window) end
          redis.call('PUBLISH', step.channel, table.concat(frame))
        end
        return reply
        """
}
