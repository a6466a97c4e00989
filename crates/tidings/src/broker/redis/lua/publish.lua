-- Sequences publications of one room, all or none, and carries what was stored to its subscribers in one message.
--
-- KEYS: meta, log, ids:0, ids:1
-- ARGV: fresh epoch, lineage mode, PUBLISH or SPUBLISH, channel, events_max, bytes_max, age_max_ms, ids_max, then for
--       each publication: idempotency id (16 bytes or none), fingerprint (8 bytes), record
-- Reply: the server's time in ms, then for each publication `sEPOCH.OFFSET` stored, `dEPOCH.OFFSET` duplicate of that
--        one, `c` conflict, `f` full
--
-- All that can fail is done before the first write. In a slot that migrates a key which the script itself has deleted
-- can't be written again, and so none is.

local IDS_TTL_S, IDS_PERIOD_S = 600, 300
-- A longer life than Redis can count would be an error after the first write.
local AGE_MAX_MS = 1e12
local FIRST = 9

local meta, log = KEYS[1], KEYS[2]
local fresh, channel = ARGV[1], ARGV[4]
local events_max, bytes_max = tonumber(ARGV[5]), tonumber(ARGV[6])
local age_max_ms, ids_max = tonumber(ARGV[7]), tonumber(ARGV[8])
local publications = (#ARGV - FIRST + 1) / 3
if #KEYS ~= 4 or publications ~= math.floor(publications) or not (events_max and bytes_max and age_max_ms and ids_max) then
  return redis.error_reply('ERR publish: wrong keys or arguments')
end
local lineage, refusal = lineage_here(ARGV[2])
if refusal then
  return refusal
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local at = text(now_ms)
local count = redis.call('ZCARD', log)
local room = open(meta, log, KEYS[3], KEYS[4], lineage, fresh, publications)
if room.seq == 0 then
  count = 0
end

-- Two hashes take turns, so that an id is remembered for one to two periods.
local ids, ids_before, ids_count
local function open_ids()
  local period = math.floor(time[1] / IDS_PERIOD_S)
  if period == room.period - 1 then
    -- The clock of another server, a little behind.
    period = room.period
  end
  local names = { [0] = KEYS[3], [1] = KEYS[4] }
  ids, ids_before = names[period % 2], names[1 - period % 2]
  if period ~= room.period then
    if period > room.period + 1 then
      redis.call('DEL', ids_before)
    end
    -- After a clock that went far back the newest ids may stand in either hash: never forget those.
    if period % 2 ~= room.period % 2 or period > room.period then
      redis.call('DEL', ids)
    end
    redis.call('HSET', ids, 'period', period)
    redis.call('EXPIRE', ids, IDS_TTL_S)
    redis.call('HSET', meta, 'period', period)
  end
  ids_count = redis.call('HLEN', ids) - 1
end

-- Rule 4: whether a remembered position is one of this log's, and not of a fork that was lost.
local function counts(epoch, offset)
  if epoch == room.epoch then
    return offset <= room.seq
  end
  for parent, top in room.parents:gmatch('(%w+)%.(%d+)') do
    if parent == epoch then
      return offset <= tonumber(top)
    end
  end
  return false
end

-- What an id led to: `epoch fingerprint offset`, 8 bytes, 8 bytes, digits.
local function remembered(id)
  for _, hash in ipairs({ ids, ids_before }) do
    local value = redis.call('HGET', hash, id)
    if value and counts(value:sub(1, 8), tonumber(value:sub(17))) then
      return value
    end
  end
end

local reply, top = { at }, room.seq
local new_ids, records, seen = {}, {}, {}
for at_arg = FIRST, #ARGV, 3 do
  local id, fingerprint = ARGV[at_arg], ARGV[at_arg + 1]
  local value
  if id ~= '' then
    if not ids then
      open_ids()
    end
    value = seen[id] or remembered(id)
  end
  if value then
    local same = value:sub(9, 16) == fingerprint
    reply[#reply + 1] = same and 'd' .. value:sub(1, 8) .. '.' .. value:sub(17) or 'c'
  elseif id ~= '' and ids_count >= ids_max then
    reply[#reply + 1] = 'f'
  else
    top = top + 1
    local offset = text(top)
    records[#records + 1] = ARGV[at_arg + 2]
    reply[#reply + 1] = 's' .. room.epoch .. '.' .. offset
    if id ~= '' then
      ids_count = ids_count + 1
      seen[id] = room.epoch .. fingerprint .. offset
      new_ids[#new_ids + 1] = id
    end
  end
end
if #records == 0 then
  return reply
end

-- The top first: should the rest be cut short, no offset is given out twice.
redis.call('HSET', meta, 'seq', text(top))
for _, id in ipairs(new_ids) do
  redis.call('HSET', ids, id, seen[id])
end
if #new_ids > 0 then
  redis.call('EXPIRE', ids, IDS_TTL_S)
end
local first = room.seq + 1
local message = { 'p' .. room.epoch .. text(first) .. ' ' .. at .. ' ' .. #records .. '\n' }
-- A log that expired, or was deleted, took its bytes with it.
local bytes = count == 0 and 0 or room.bytes
for index, record in ipairs(records) do
  bytes = bytes + log_append(log, text(room.seq + index), at, record)
  message[#message + 1] = #record .. '\n'
  message[#message + 1] = record
end
redis.call('PEXPIRE', log, text(math.min(age_max_ms, AGE_MAX_MS)))
bytes = log_trim(log, count + #records, bytes, events_max, bytes_max, now_ms - age_max_ms)
redis.call('HSET', meta, 'bytes', text(bytes))
redis.call(ARGV[3], channel, table.concat(message))
return reply
