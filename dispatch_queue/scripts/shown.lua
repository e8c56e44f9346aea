-- shown: what Flower shows of a task, sent as the Celery events that lead it there; put before common.lua.
-- KEYS     none            see common.lua
-- ARGV     none
-- returns  nothing
local EVENTS = {running = 'progress', done = 'succeeded', failed = 'failed', cancelled = 'revoked'}
local LONGEST = 300 -- bytes of a text

local function clipped(text)
  text = string.gsub(text, '%s+', ' ')
  if #text <= LONGEST then
    return text
  end
  return string.gsub(string.sub(text, 1, LONGEST), '[\192-\255][\128-\191]*$', '') .. '…' -- whole characters only
end

-- Keep the text of a question for as long as Flower may have to show it.
local function keep_question(ref, entry)
  local asked = cjson.decode(entry)
  if asked.event == 'ask' then
    redis.call('HSET', key.record .. ref, string.format('question:%d', asked.question), clipped(asked.text))
  end
end

-- `2/5, question 1: which database?`: how far a task is, and what it waits for or why it ended.
local function standing(ref, done, total, questions, reason)
  local first = questions and string.match(questions, '^%d+')
  local text = first and redis.call('HGET', key.record .. ref, 'question:' .. first)
  local said = text and 'question ' .. first .. ': ' .. text or clipped(reason)
  local progress = total and total ~= '' and (done or 0) .. '/' .. total or ''
  return progress .. (progress ~= '' and said ~= '' and ', ' or '') .. said
end

local function publish(event, kind)
  event.type = 'task-' .. kind
  local message = {
    body = cjson.encode(event),
    ['content-type'] = 'application/json',
    ['content-encoding'] = 'utf-8',
    headers = {hostname = event.hostname},
    properties = {delivery_info = {exchange = 'celeryev', routing_key = 'task.' .. kind}, delivery_mode = 1,
      priority = 0, body_encoding = 'utf-8', delivery_tag = event.uuid},
  }
  redis.pcall('PUBLISH', key.event .. 'task.' .. kind, cjson.encode(message)) -- who may not publish may still work
end

-- Send what is new of a task; with `again`, all of it. `node` is a worker that has just taken a ticket of the task.
-- An event names a worker; while there is none to name, only the one of a sender can be sent: state PENDING.
local function show(ref, again, node)
  local found = redis.call('HMGET', key.record .. ref, 'state', 'reason', 'done', 'total', 'questions', 'node', 'ticket',
    'started', 'shown')
  local state, reason = found[1], found[2] or ''
  if not state or not found[7] then
    return
  end
  node = found[6] or node
  if not node and state ~= 'queued' and state ~= 'waiting' then
    node = redis.call('GET', key.node) -- it ended without having run: any worker's name must do
  end
  local kind = node and (EVENTS[state] or state) or 'sent'
  local result = standing(ref, found[3], found[4], found[5], reason)
  if found[9] == kind .. ' ' .. result and not again then
    return
  end
  redis.call('HSET', key.record .. ref, 'shown', kind .. ' ' .. result)
  local headers, now = cjson.decode(found[7]).headers, redis.call('TIME')
  local event = {uuid = headers.id, name = headers.task, args = headers.argsrepr, kwargs = '{}', result = result,
    exception = cjson.null, runtime = cjson.null, hostname = node or headers.origin,
    timestamp = tonumber(now[1]) + tonumber(now[2]) / 1000000}
  if kind == 'failed' then
    event.exception = string.gsub(clipped(reason), '<', '‹') -- Flower's table prints this one unescaped
  end
  if (kind == 'failed' or kind == 'succeeded') and found[8] then
    event.runtime = event.timestamp - tonumber(found[8])
  end
  if kind == 'revoked' or kind == 'queued' then
    publish(event, 'retried') -- by Celery's order of states, only this one leads back
  end
  publish(event, kind)
end
