-- show: tell Flower where a task stands.
-- KEYS     none            see common.lua
-- ARGV[1]  task            string    project/task
-- ARGV[2]  node            string    the worker that has taken a ticket of the task and is done with it, or empty
-- returns  1 told, if there was anything to tell · 0 no such task
local state, node = field(ARGV[1], 'state'), ARGV[2] ~= '' and ARGV[2] or nil
if state == '' then
  return 0
end
-- A ticket that was put back was shown as started; else what was told before still holds.
show(ARGV[1], not node or state == 'queued', node)
return 1
