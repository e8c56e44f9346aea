-- release: take away one thing a waiting task waits for; it is queued if that was the last one.
-- KEYS     none            see common.lua
-- ARGV[1]  task            string    project/task
-- ARGV[2]  what            string    the field to clear: hold, due, or "" to queue it whatever it waits for
-- ARGV[3]  reason          string    why it waits on, if it does
-- ARGV[4]  at, ARGV[5] by  string    of the journal entry
-- returns  1 queued · 0 it waits on · -1 it does not wait
local ref = ARGV[1]
if field(ref, 'state') ~= 'waiting' then
  redis.call('ZREM', key.due, ref)
  return -1
end
if ARGV[2] ~= '' then
  redis.call('HSET', key.record .. ref, ARGV[2], '')
end
if ARGV[2] == 'due' then
  redis.call('ZREM', key.due, ref)
end
if ARGV[2] ~= '' and not is_ready(ref) then
  redis.call('HSET', key.record .. ref, 'reason', ARGV[3])
  return 0
end
redis.call('HSET', key.record .. ref, 'reason', '', 'changed', ARGV[4])
write_entry(ref, '"state":"queued",',
  '{"event":"release","at":' .. cjson.encode(ARGV[4]) .. ',"by":' .. cjson.encode(ARGV[5]) .. '}')
move(ref, 'waiting', 'queued')
tell(ref)
return 1
