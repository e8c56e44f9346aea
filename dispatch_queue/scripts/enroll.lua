-- enroll: make the record of a task that only files know; one that exists is left alone.
-- KEYS     none            see common.lua
-- ARGV[1]  task            string    project/task
-- ARGV[2]  state           string    of states.State
-- ARGV[3]  waits           json      {after: [task …], due: milliseconds since 1970 or 0, at, by}
-- ARGV[4…] fields          name, value, name, value …
-- returns  1 made · 0 it existed
local ref = ARGV[1]
local record = key.record .. ref
if redis.call('EXISTS', record) == 1 then
  return 0
end
local waits = cjson.decode(ARGV[3])
for place = 4, #ARGV, 2 do
  redis.call('HSET', record, ARGV[place], ARGV[place + 1])
end
redis.call('HSET', record, 'beat', 0) -- the reaper asks for it: a running task's worker may be dead
redis.call('SADD', key.tasks, ref)
if ARGV[2] == 'waiting' and waits.due > 0 then
  redis.call('HSET', record, 'due', string.format('%d', waits.due))
end
move(ref, '', ARGV[2])
if ARGV[2] == 'waiting' then
  local ended = {}
  for _, other in ipairs(waits.after) do
    redis.call('SADD', key.after .. ref, other)
    redis.call('SADD', key.dependents .. other, ref)
    if is_final(field(other, 'state')) then
      ended[#ended + 1] = other
    end
  end
  for _, other in ipairs(ended) do
    settle(other, waits.at, waits.by)
  end
  if field(ref, 'state') == 'waiting' and is_ready(ref) then
    let_go(ref, '', waits.at, waits.by)
  end
elseif is_final(ARGV[2]) then
  settle(ref, waits.at, waits.by)
end
tell(ref)
if field(ref, 'worker') ~= '' then
  redis.call('PUBLISH', key.live .. field(ref, 'worker'), ref) -- it knows more than the files that this was made of
end
return 1
