-- The log of a room: a sorted set, score = offset, member = `offset at_ms record`. log.rs has the figures.

local function log_append(log, offset, at, record)
  local member = offset .. ' ' .. at .. ' ' .. record
  redis.call('ZADD', log, offset, member)
  return #member
end

-- The first stored offset, as text; nil if nothing is stored.
local function log_oldest(log)
  local head = redis.call('ZRANGE', log, 0, 0)[1]
  return head and head:match('^%d+')
end

-- Forgets from the head what is over a bound; what is left in bytes. A call does bounded work: the rest goes with the
-- next ones.
local function log_trim(log, count, bytes, events_max, bytes_max, keep_from_ms)
  local chunk, passes = math.max(1, math.min(count - events_max, 64)), 0
  while count > 0 and passes < 32 do
    local gone, aged = 0, false
    for _, member in ipairs(redis.call('ZRANGE', log, 0, chunk - 1)) do
      aged = tonumber(member:match('^%d+ (%d+) ')) < keep_from_ms
      if not (aged or count > events_max or bytes > bytes_max) then
        break
      end
      gone, count, bytes = gone + 1, count - 1, bytes - #member
    end
    if gone > 0 then
      redis.call('ZREMRANGEBYRANK', log, 0, gone - 1)
    end
    -- What follows one that is not too old is not too old either.
    if gone < chunk or not (aged or count > events_max or bytes > bytes_max) then
      break
    end
    chunk, passes = math.min(chunk * 2, 64), passes + 1
  end
  return bytes
end

-- Appends to `reply` the members after an offset (`-inf` for all), oldest first, and at least one if there is any.
local function log_read(log, after, events_max, bytes_max, reply)
  local events, bytes, low = 0, 0, after
  if after ~= '-inf' then
    low = '(' .. after
  end
  while events < events_max do
    local members = redis.call('ZRANGE', log, low, '+inf', 'BYSCORE', 'LIMIT', 0, math.min(64, events_max - events))
    for _, member in ipairs(members) do
      bytes = bytes + #member
      if bytes > bytes_max and events > 0 then
        return
      end
      events = events + 1
      reply[#reply + 1] = member
    end
    if #members == 0 then
      return
    end
    low = '(' .. members[#members]:match('^%d+')
  end
end
