-- enroll: make the record of a task that only files know; one that exists is left alone.
-- KEYS[1]  task record     hash      keys.record(task)
-- KEYS[2]  all tasks       set       keys.tasks()
-- KEYS[3]  queue           list      keys.queue(name)
-- ARGV[1]  task            string    project/task
-- ARGV[2]  state           string    of states.State
-- ARGV[3]  ticket          string    pushed to the queue unless empty
-- ARGV[4]  channel         string    of the home copy's host
-- ARGV[5…] fields          name, value, name, value …
-- returns  1 made · 0 it existed
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
for place = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 1])
end
redis.call('HSET', KEYS[1], 'state', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[1])
if ARGV[3] ~= '' then
  redis.call('LPUSH', KEYS[3], ARGV[3])
end
redis.call('PUBLISH', ARGV[4], ARGV[1])
return 1
