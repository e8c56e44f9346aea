-- forget: delete all that is known of a task, unless something has happened to it since the caller looked.
-- KEYS     none            see common.lua
-- ARGV[1]  task            string    project/task
-- ARGV[2]  seq             integer   of the record, as the caller saw it
-- ARGV[3]  unfinished      string    "1": also a task that is not final, if no attempt of it runs
-- returns  1 forgotten · 0 it changed, it runs, it is not final, or another task waits for it · -1 no such task
local ref = ARGV[1]
local state = field(ref, 'state')
if state == '' then
  return -1
end
local over = is_final(state) or (ARGV[3] == '1' and not is_held(state))
if not over or field(ref, 'seq') ~= ARGV[2] or redis.call('SCARD', key.dependents .. ref) > 0 then
  return 0
end
forget_waits(ref)
redis.call('SREM', key.state .. state, ref)
redis.call('SREM', key.tasks, ref)
for _, family in ipairs({'record', 'files', 'revisions', 'journal', 'dependents'}) do
  redis.call('DEL', key[family] .. ref)
end
return 1
