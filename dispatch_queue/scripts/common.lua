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

-- Move a task to a state: the sets of tasks by state follow, and one that becomes queued gets its ticket.
local function move(ref, from, to)
  if from ~= '' then
    redis.call('SREM', key.state .. from, ref)
  end
  redis.call('SADD', key.state .. to, ref)
  redis.call('HSET', key.record .. ref, 'state', to)
  if to == 'queued' then
    send_ticket(ref)
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
        local stamp = '"at":' .. cjson.encode(at) .. ',"by":' .. cjson.encode(by)
        if state ~= 'done' and field(dependent, 'after_any') == '' then
          local reason = 'dependency: `' .. string.match(ref, '[^/]*$') .. '` is ' .. state
          redis.call('HSET', key.record .. dependent, 'reason', reason, 'changed', at)
          write_entry(dependent, '"state":"failed",',
            '{"event":"fail",' .. stamp .. ',"reason":' .. cjson.encode(reason) .. '}')
          move(dependent, 'waiting', 'failed')
          ended[#ended + 1] = dependent
          tell(dependent)
        elseif is_ready(dependent) then
          redis.call('HSET', key.record .. dependent, 'reason', '', 'changed', at)
          write_entry(dependent, '"state":"queued",', '{"event":"release",' .. stamp .. '}')
          move(dependent, 'waiting', 'queued')
          tell(dependent)
        end
      end
    end
  end
end

local function is_final(state)
  return state == 'done' or state == 'failed' or state == 'cancelled'
end

local function is_held(state)
  return state == 'running' or state == 'asking'
end
