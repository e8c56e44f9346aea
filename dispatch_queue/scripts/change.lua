-- change: one step of a task: state, claim, fields, files, journal, ticket and news, all or nothing.
-- KEYS     none            see common.lua
-- ARGV[1]  task            string    project/task
-- ARGV[2]  what to do      json      {token?, guard?, moves?, claim?, begun?, limits?, hold?, fields, entries, node, once, at, by}
-- ARGV[3…] files           name, bytes, name, bytes …
-- returns  {"ok", seq, state, token, attempt} · {"refused", state} · {"stale", token held} · {"guard", state}
--          · {"full", the limit's name, how many run}
local ref = ARGV[1]
local want = cjson.decode(ARGV[2])
local record = key.record .. ref
local state = field(ref, 'state')
local held = tonumber(redis.call('HGET', record, 'token') or '0')

if state == '' then
  return {'refused', state} -- before the token: a claim is not lost with the data of Redis
end
if want.once ~= '' and field(ref, 'once') == want.once then
  return {'ok', tonumber(field(ref, 'seq')), state, held, tonumber(field(ref, 'attempt'))}
end
if want.token and want.token ~= held then
  return {'stale', held}
end
if want.guard and field(ref, want.guard[1]) ~= want.guard[2] then
  return {'guard', state}
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
end

for _, limit in ipairs(want.limits or {}) do
  local running = count_held(limit.field, limit.value)
  if running >= limit.most then
    return {'full', limit.field .. ' ' .. limit.value, running}
  end
end
if want.hold then
  redis.call('HSET', key.holds, want.hold.name, want.hold['until'])
end

local worker = field(ref, 'worker')
local attempt = tonumber(redis.call('HGET', record, 'attempt') or '0')
if want.claim then
  -- By chance, so that a claim which this server forgot in a crash is not held by the next one too.
  held = held + want.claim
  attempt = math.max(attempt, want.begun) + 1
  redis.call('HSET', record, 'token', held, 'attempt', attempt, 'beat', 0, 'started', redis.call('TIME')[1])
end
if want.node ~= '' and (want.claim or want.token) then
  redis.call('HSET', record, 'node', want.node)
  redis.call('SET', key.node, want.node)
end
if target and is_held(state) and not is_held(target) then
  -- The claim ends with the state: whoever held it is stale from here on.
  held = held + 1
  redis.call('HSET', record, 'token', held)
end
if want.once ~= '' then
  redis.call('HSET', record, 'once', want.once)
end
for name, value in pairs(want.fields) do
  redis.call('HSET', record, name, value)
end
for place, entry in ipairs(want.entries) do
  local head = ''
  if target and place == 1 then
    head = '"state":"' .. target .. '",'
  end
  if want.claim then
    head = head .. '"attempt":' .. attempt .. ',"token":' .. held .. ','
  end
  write_entry(ref, head, entry)
  pcall(keep_question, ref, entry)
end
if #want.entries == 0 and #ARGV > 2 then
  redis.call('HINCRBY', record, 'seq', 1) -- files alone are a step too, or nobody would pull them
end
local seq = tonumber(field(ref, 'seq'))
for place = 3, #ARGV, 2 do
  redis.call('HSET', key.files .. ref, ARGV[place], ARGV[place + 1])
  redis.call('HSET', key.revisions .. ref, ARGV[place], seq)
end
if target then
  move(ref, state, target)
  if is_final(target) then
    settle(ref, want.at, want.by)
  end
end
tell(ref)
if not want.token and worker ~= '' then
  redis.call('PUBLISH', key.live .. worker, ref)
end
return {'ok', seq, target or state, held, attempt}
