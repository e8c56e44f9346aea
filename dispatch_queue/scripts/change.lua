-- change: one step of a task: state, claim, fields, files, journal, ticket and news, all or nothing.
-- KEYS[1]  task record     hash      keys.record(task)
-- KEYS[2]  files           hash      keys.files(task)
-- KEYS[3]  revisions       hash      keys.revisions(task)
-- KEYS[4]  journal         stream    keys.journal(task)
-- KEYS[5]  all tasks       set       keys.tasks()
-- KEYS[6]  queue           list      keys.queue(name); the ticket goes there when the task becomes queued
-- ARGV[1]  what to do      json      {ref, token?, guard?, moves?, claim?, fields, entries, ticket?, home, live?}
-- ARGV[2…] files           name, bytes, name, bytes …
-- returns  {"ok", seq, state, token, attempt} · {"refused", state} · {"stale", token held} · {"guard", field value}
local want = cjson.decode(ARGV[1])
local state = redis.call('HGET', KEYS[1], 'state') or ''
local held = tonumber(redis.call('HGET', KEYS[1], 'token') or '0')

if want.token and want.token ~= held then
  return {'stale', held}
end
if want.guard then
  local seen = redis.call('HGET', KEYS[1], want.guard[1]) or ''
  if seen ~= want.guard[2] then
    return {'guard', seen}
  end
end
local target = nil
if want.moves then
  target = want.moves[state]
  if not target then
    return {'refused', state}
  end
  if target == state then
    target = nil
  end
elseif state == '' then
  return {'refused', state}
end

local seq = tonumber(redis.call('HGET', KEYS[1], 'seq') or '0')
local attempt = tonumber(redis.call('HGET', KEYS[1], 'attempt') or '0')
if want.claim then
  held = held + 1
  attempt = attempt + 1
  redis.call('HSET', KEYS[1], 'token', held, 'attempt', attempt, 'beat', 0)
end
if target and target ~= 'running' and target ~= 'asking' and (state == 'running' or state == 'asking') then
  -- The claim ends with the state: whoever held it is stale from here on.
  held = held + 1
  redis.call('HSET', KEYS[1], 'token', held)
end
for name, value in pairs(want.fields) do
  redis.call('HSET', KEYS[1], name, value)
end
if target then
  redis.call('HSET', KEYS[1], 'state', target)
end
for place, entry in ipairs(want.entries) do
  seq = seq + 1
  local head = '{"seq":' .. seq .. ','
  if target and place == 1 then
    head = head .. '"state":"' .. target .. '",'
  end
  if want.claim then
    head = head .. '"attempt":' .. attempt .. ','
  end
  redis.call('XADD', KEYS[4], seq .. '-0', 'entry', head .. string.sub(entry, 2))
end
if #want.entries == 0 and #ARGV > 1 then
  seq = seq + 1 -- files alone are a step too, or nobody would pull them
end
for place = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[place], ARGV[place + 1])
  redis.call('HSET', KEYS[3], ARGV[place], seq)
end
redis.call('HSET', KEYS[1], 'seq', seq)
redis.call('SADD', KEYS[5], want.ref)
if want.ticket and target == 'queued' then
  redis.call('LPUSH', KEYS[6], want.ticket)
end
redis.call('PUBLISH', want.home, want.ref)
if want.live then
  redis.call('PUBLISH', want.live, want.ref)
end
return {'ok', seq, target or state, held, attempt}
