-- pull: what changed of a task after a given seq, as one consistent look.
-- KEYS     none            see common.lua
-- ARGV[1]  task            string    project/task
-- ARGV[2]  since           integer   the last seq the caller has
-- returns  {seq or -1 for no such task, {entry line, …}, {name, bytes, name, bytes, …}}
local ref = ARGV[1]
local seq = redis.call('HGET', key.record .. ref, 'seq')
if not seq then
  return {-1, {}, {}}
end
local since = tonumber(ARGV[2])
local lines = {}
for _, found in ipairs(redis.call('XRANGE', key.journal .. ref, '(' .. since .. '-0', '+')) do
  lines[#lines + 1] = found[2][2]
end
local files = {}
local revisions = redis.call('HGETALL', key.revisions .. ref)
for place = 1, #revisions, 2 do
  if tonumber(revisions[place + 1]) > since then
    files[#files + 1] = revisions[place]
    files[#files + 1] = redis.call('HGET', key.files .. ref, revisions[place])
  end
end
return {tonumber(seq), lines, files}
