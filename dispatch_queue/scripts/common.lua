-- common: what the scripts share; put before each of them when it is loaded, after the table `key` (keys.lua_table).
-- KEYS     none            every key is made from a ref by the table `key`
-- ARGV     none
-- returns  nothing
local function field(ref, name)
  return redis.call('HGET', key.record .. ref, name) or ''
end

-- Append an entry to the journal: `facts` is a json object, of which `head` takes the front. Returns its seq.
local function write_entry(ref, head, facts)
  local seq = redis.call('HINCRBY', key.record .. ref, 'seq', 1)
  redis.call('XADD', key.journal .. ref, seq .. '-0', 'entry', '{"seq":' .. seq .. ',' .. head .. string.sub(facts, 2))
  return seq
end

-- Send the task's ticket: its template with an identity of this time's own.
local function send_ticket(ref)
  local hash = redis.sha1hex(ref .. ' ' .. field(ref, 'seq') .. ' ' .. field(ref, 'sent'))
  redis.call('HINCRBY', key.record .. ref, 'sent', 1)
  local identity = string.format('%s-%s-%s-%s-%s', string.sub(hash, 1, 8), string.sub(hash, 9, 12),
    string.sub(hash, 13, 16), string.sub(hash, 17, 20), string.sub(hash, 21, 32))
  local ticket = string.gsub(field(ref, 'ticket'), '@identity@', identity)
  redis.call('LPUSH', key.queue .. field(ref, 'queue'), ticket)
end

-- A task that waits no more has nothing left that it waited for.
local function forget_waits(ref)
  for _, other in ipairs(redis.call('SMEMBERS', key.after .. ref)) do
    redis.call('SREM', key.dependents .. other, ref)
  end
  redis.call('DEL', key.after .. ref)
  redis.call('ZREM', key.due, ref)
  redis.call('HSET', key.record .. ref, 'hold', '', 'due', '', 'until', '', 'limit', '')
end

-- Move a task to a state: the sets of tasks by state follow, and one that becomes queued gets its ticket.
local function move(ref, from, to)
  if from ~= '' then
    redis.call('SREM', key.state .. from, ref)
  end
  if from == 'waiting' and to ~= 'waiting' then
    forget_waits(ref)
  end
  redis.call('SADD', key.state .. to, ref)
  redis.call('HSET', key.record .. ref, 'state', to)
  if to == 'queued' then
    send_ticket(ref)
  elseif to == 'waiting' and field(ref, 'due') ~= '' then
    redis.call('ZADD', key.due, field(ref, 'due'), ref)
  end
end

local function tell(ref)
  redis.call('PUBLISH', key.home .. field(ref, 'home'), ref)
  pcall(show, ref) -- a task goes on, whatever its looks
end

-- A waiting task may go when nobody holds it, its time has come, and all it waits for have ended.
local function is_ready(ref)
  return field(ref, 'hold') == '' and field(ref, 'due') == '' and redis.call('SCARD', key.after .. ref) == 0
end

-- What a task waits for, as schedule.reason says it.
local function waits_for(ref)
  local parts, names = {}, {}
  if field(ref, 'hold') ~= '' then
    parts[1] = 'held: dispatch release ' .. string.match(ref, '[^/]*$')
  end
  for _, other in ipairs(redis.call('SMEMBERS', key.after .. ref)) do
    names[#names + 1] = string.match(other, '[^/]*$')
  end
  if #names > 0 then
    table.sort(names)
    local more = #names > 4 and ' and ' .. #names - 4 .. ' more' or ''
    parts[#parts + 1] = 'after ' .. table.concat(names, ', ', 1, math.min(#names, 4)) .. more
  end
  if field(ref, 'due') ~= '' then
    parts[#parts + 1] = 'until ' .. field(ref, 'until')
  end
  return table.concat(parts, '; ')
end

-- A waiting task waits for one thing less, told by `facts`: it is queued if that was the last. Returns 1 then, else 0.
local function let_go(ref, facts, at, by)
  local ready = is_ready(ref)
  local reason = ready and '' or waits_for(ref)
  local told = ready and '' or ',"reason":' .. cjson.encode(reason)
  redis.call('HSET', key.record .. ref, 'reason', reason, 'changed', at)
  write_entry(ref, ready and '"state":"queued",' or '',
    '{"event":"release","at":' .. cjson.encode(at) .. ',"by":' .. cjson.encode(by) .. facts .. told .. '}')
  if ready then
    move(ref, 'waiting', 'queued')
  end
  tell(ref)
  return ready and 1 or 0
end

-- What a final state means for those who wait for the task, and for those who wait for them.
local function settle(first, at, by)
  local ended = {first}
  while #ended > 0 do
    local ref = table.remove(ended)
    local state = field(ref, 'state')
    for _, dependent in ipairs(redis.call('SMEMBERS', key.dependents .. ref)) do
      redis.call('SREM', key.dependents .. ref, dependent)
      redis.call('SREM', key.after .. dependent, ref)
      if field(dependent, 'state') == 'waiting' then
        local name = string.match(ref, '[^/]*$')
        if state ~= 'done' and field(dependent, 'after_any') == '' then
          local reason = 'dependency: `' .. name .. '` is ' .. state
          local stamp = '"at":' .. cjson.encode(at) .. ',"by":' .. cjson.encode(by)
          redis.call('HSET', key.record .. dependent, 'reason', reason, 'changed', at)
          write_entry(dependent, '"state":"failed",',
            '{"event":"fail",' .. stamp .. ',"reason":' .. cjson.encode(reason) .. '}')
          move(dependent, 'waiting', 'failed')
          ended[#ended + 1] = dependent
          tell(dependent)
        else
          let_go(dependent, ',"ended":' .. cjson.encode(name), at, by)
        end
      end
    end
  end
end

-- How many attempts run of which a field of the record has this value; of `host`, the worker's.
local function count_held(name, value)
  local count = 0
  for _, ref in ipairs(redis.call('SUNION', key.state .. 'running', key.state .. 'asking')) do
    local found = name == 'host' and string.match(field(ref, 'worker'), '^(.*):') or field(ref, name)
    if found == value then
      count = count + 1
    end
  end
  return count
end

local function is_final(state)
  return state == 'done' or state == 'failed' or state == 'cancelled'
end

local function is_held(state)
  return state == 'running' or state == 'asking'
end
