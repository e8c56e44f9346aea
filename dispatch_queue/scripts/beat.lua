-- beat: raise a claim's heartbeat, if its token still holds the task.
-- KEYS     none            see common.lua
-- ARGV[1]  task            string    project/task
-- ARGV[2]  token           integer   from the claim
-- returns  1 raised · 0 another token holds it · -1 no such task
local record = key.record .. ARGV[1]
local held = redis.call('HGET', record, 'token')
if not held then
  return -1
end
if held ~= ARGV[2] then
  return 0
end
redis.call('HINCRBY', record, 'beat', 1)
return 1
