-- show: tell Flower where a task stands, whether or not it was told before.
-- KEYS     none            see common.lua
-- ARGV[1]  task            string    project/task
-- ARGV[2]  node            string    the worker that has just taken a ticket of the task, or empty
-- returns  1 told · 0 no such task
if redis.call('EXISTS', key.record .. ARGV[1]) == 0 then
  return 0
end
show(ARGV[1], true, ARGV[2] ~= '' and ARGV[2] or nil)
return 1
