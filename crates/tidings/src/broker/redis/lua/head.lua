-- What every script begins with: who answers here, and what is known of a room. docs/redis.md, rules 1 and 2.
--
-- Numbers of offsets and times leave Lua through `text` alone: joined to a string as they are, they become 1e+15.

local META_TTL_S = 604800
local OFFSET_MAX = 9007199254740991
local PARENTS_MAX = 8

local function text(number)
  return string.format('%.0f', number)
end

-- The history that this server goes on, or an error reply. Asked here and not by the connection: a server can be
-- demoted and promoted again without closing any. In mode `none` nobody asks, and no lineage ever differs.
local function lineage_here(mode)
  if mode == 'none' then
    return false
  end
  local info = redis.call('INFO', 'replication')
  local lineage = info:match('master_replid:(%x+)')
  if info:match('role:(%a+)') ~= 'master' or not lineage then
    return nil, redis.error_reply('NOTMASTER this server is a replica')
  end
  return lineage
end

-- What meta says of a room; nil if it says nothing, or what this script never wrote. `more` offsets have to be left.
local function known(meta, more)
  local stored = redis.call('HMGET', meta, 'epoch', 'seq', 'lineage', 'parents', 'bytes', 'period')
  local epoch, seq = stored[1], stored[2]
  if not epoch or not epoch:match('^%w%w%w%w%w%w%w%w$') or not seq or not seq:match('^%d+$') then
    return nil
  end
  seq = tonumber(seq)
  if seq + more > OFFSET_MAX then
    return nil
  end
  return {
    epoch = epoch,
    seq = seq,
    lineage = stored[3] or '',
    parents = stored[4] or '',
    bytes = tonumber(stored[5]) or 0,
    period = tonumber(stored[6]) or 0,
  }
end

-- The last parents with one more.
local function with_parent(parents, epoch, seq)
  local all = {}
  for parent in parents:gmatch('[^,]+') do
    all[#all + 1] = parent
  end
  all[#all + 1] = epoch .. '.' .. text(seq)
  return table.concat(all, ',', math.max(1, #all - PARENTS_MAX + 1))
end

-- The room as it is from now on: made if there is none, moved to the epoch `fresh` if it came from another history.
local function open(meta, log, ids0, ids1, lineage, fresh, more)
  local room = known(meta, more)
  if not room then
    -- What an older life left behind belongs to no epoch that anybody could name.
    redis.call('DEL', meta, log, ids0, ids1)
    room = { epoch = fresh, seq = 0, lineage = lineage or '', parents = '', bytes = 0, period = 0 }
    redis.call('HSET', meta, 'epoch', fresh, 'seq', '0', 'lineage', room.lineage, 'parents', '', 'bytes', '0')
  elseif lineage and room.lineage ~= lineage then
    room.parents = with_parent(room.parents, room.epoch, room.seq)
    room.epoch, room.lineage = fresh, lineage
    redis.call('HSET', meta, 'epoch', fresh, 'lineage', lineage, 'parents', room.parents)
  end
  redis.call('EXPIRE', meta, META_TTL_S)
  return room
end
