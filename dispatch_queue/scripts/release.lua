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
  local limit = field(ref, 'limit')
  forget_waits(ref)
  if limit ~= '' then -- whoever says `now` knows that it is over, for all that wait for it
    redis.call('HDEL', key.holds, limit)
    for _, other in ipairs(redis.call('SMEMBERS', key.state .. 'waiting')) do
      if other ~= ref and field(other, 'limit') == limit then
        redis.call('HSET', key.record .. other, 'due', '', 'limit', '')
        redis.call('ZREM', key.due, other)
        let_go(other, facts.due, ARGV[3], ARGV[4])
      end
    end
  end
elseif field(ref, what) == '' then
  return 0
else
  redis.call('HSET', key.record .. ref, what, '')
end
if what == 'due' then
  redis.call('ZREM', key.due, ref)
end
return let_go(ref, facts[what] or '', ARGV[3], ARGV[4])
