-- beat: raise a claim's heartbeat, if its token still holds the task.
-- KEYS[1]  task record     hash      keys.record(task)
-- ARGV[1]  token           integer   from the claim
-- returns  1 raised · 0 another token holds it · -1 no such task
local held = redis.call('HGET', KEYS[1], 'token')
if not held then
  return -1
end
if held ~= ARGV[1] then
  return 0
end
redis.call('HINCRBY', KEYS[1], 'beat', 1)
return 1
