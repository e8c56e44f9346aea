-- pull: what changed of a task after a given seq, as one consistent look.
-- KEYS[1]  task record     hash      keys.record(task)
-- KEYS[2]  files           hash      keys.files(task)
-- KEYS[3]  revisions       hash      keys.revisions(task)
-- KEYS[4]  journal         stream    keys.journal(task)
-- ARGV[1]  since           integer   the last seq the caller has
-- returns  {seq or -1 for no such task, {entry line, …}, {name, bytes, name, bytes, …}}
local seq = redis.call('HGET', KEYS[1], 'seq')
if not seq then
  return {-1, {}, {}}
end
local since = tonumber(ARGV[1])
local lines = {}
for _, found in ipairs(redis.call('XRANGE', KEYS[4], '(' .. since .. '-0', '+')) do
  lines[#lines + 1] = found[2][2]
end
local files = {}
local revisions = redis.call('HGETALL', KEYS[3])
for place = 1, #revisions, 2 do
  if tonumber(revisions[place + 1]) > since then
    files[#files + 1] = revisions[place]
    files[#files + 1] = redis.call('HGET', KEYS[2], revisions[place])
  end
end
return {tonumber(seq), lines, files}
