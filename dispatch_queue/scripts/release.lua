-- release: take away one thing a waiting task waits for; it is queued if that was the last one.
-- KEYS     none            see common.lua
-- ARGV[1]  task            string    project/task
-- ARGV[2]  what            string    the field to clear: hold, due, or "" to queue it whatever it waits for
-- ARGV[3]  at              string    of the journal entry
-- ARGV[4]  by              string    of the journal entry
-- returns  1 queued · 0 it waits on, or did not wait for that · -1 it does not wait
local ref, what = ARGV[1], ARGV[2]
local facts = {hold = ',"held":false', due = ',"until":""'}
if field(ref, 'state') ~= 'waiting' then
  redis.call('ZREM', key.due, ref)
  return -1
end
if what == '' then
  redis.call('HDEL', key.holds, field(ref, 'limit')) -- whoever says `now` knows that the limit is over
  forget_waits(ref)
elseif field(ref, what) == '' then
  return 0
else
  redis.call('HSET', key.record .. ref, what, '')
end
if what == 'due' then
  redis.call('ZREM', key.due, ref)
end
return let_go(ref, facts[what] or '', ARGV[3], ARGV[4])
