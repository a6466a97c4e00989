-- Who is in a room, and at which nodes. The users are a hash: user -> `NODES INFO`, where NODES are 16 hexadecimal
-- digits each and INFO is JSON or nothing. The nodes are a sorted set: node -> the time in ms up to which it counts as
-- alive, by this server's clock. `meta` has `rev`, the epoch that it counts in, since when it does so without a jump,
-- and how many users there have to be.

local PRESENCE_TTL_S = 600
-- So far a revision moves on where changes may have been lost: those who had them find as many numbers to tell them by.
local REV_JUMP = 1000000

local function now_in_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- One change, as `message.rs` reads it.
local function record(kind, user, info)
  return kind .. #user .. ' ' .. #info .. '\n' .. user .. info
end

-- Changes whose revisions follow `before`, as one message.
local function message_of(epoch, before, records)
  return 'd' .. epoch .. text(before) .. ' ' .. #records .. '\n' .. table.concat(records)
end

-- Carries changes. Without any it says that the revision has jumped.
local function tell(meta, carry, epoch, before, records)
  redis.call(carry, meta:sub(1, -6), message_of(epoch, before, records))
end

-- Moves the revision past every one that anybody here has seen, so that all nodes read again.
local function jump(meta, carry, presence, room, now_ms, known_rev)
  presence.rev = math.max(now_ms, presence.rev, known_rev) + REV_JUMP
  redis.call('HSET', meta, 'rev', text(presence.rev), 'rev_epoch', room.epoch)
  tell(meta, carry, room.epoch, presence.rev, {})
end

-- The presence of a room that is open, and whether it has jumped: because there was none, because some of it was lost,
-- or because the server goes on from a state that may be older than what the caller has seen.
local function open_presence(meta, users, nodes, room, now_ms, known_rev, carry)
  local stored = redis.call('HMGET', meta, 'rev', 'rev_epoch', 'users', 'since')
  local count = redis.call('HLEN', users)
  local presence = { rev = tonumber(stored[1]) or 0, since = tonumber(stored[4]) or 0, count = count }
  local whole = stored[1] and tonumber(stored[3]) == count and (count == 0 or redis.call('EXISTS', nodes) == 1)
  if whole and stored[2] == room.epoch and presence.rev >= known_rev then
    return presence, false
  end
  if not whole then
    redis.call('DEL', users, nodes)
    presence.count = 0
  end
  -- Where nothing has been yet nothing was lost; a node that has seen more knows it by the epoch.
  presence.since = (stored[1] or known_rev > 0) and now_ms or 0
  redis.call('HSET', meta, 'users', presence.count, 'since', text(presence.since))
  jump(meta, carry, presence, room, now_ms, known_rev)
  return presence, true
end

-- A node that has ended without a word, if there is one. The caller is none, whatever it has missed.
local function dead_node(nodes, now_ms, caller)
  for _, node in ipairs(redis.call('ZRANGEBYSCORE', nodes, '-inf', text(now_ms), 'LIMIT', 0, 2)) do
    if node ~= caller then
      return node
    end
  end
end

local function nodes_and_info(value)
  return value:match('^(%x+) (.*)$')
end

local function has_node(at, node)
  for first = 1, #at, 16 do
    if at:sub(first, first + 15) == node then
      return true
    end
  end
  return false
end

local function without_node(at, node)
  local left = {}
  for first = 1, #at, 16 do
    local other = at:sub(first, first + 15)
    if other ~= node then
      left[#left + 1] = other
    end
  end
  return table.concat(left)
end

-- Writes down what has changed, and carries it.
local function save_presence(meta, users, carry, room, presence, records)
  local before = presence.rev
  presence.rev = before + #records
  redis.call('HSET', meta, 'rev', text(presence.rev), 'users', redis.call('HLEN', users))
  if #records > 0 then
    tell(meta, carry, room.epoch, before, records)
  end
end
