-- resend: send the ticket of a queued task again; the claim makes a second one harmless.
-- KEYS     none            see common.lua
-- ARGV[1]  task            string    project/task
-- ARGV[2]  sent            integer   how many tickets of it the caller knows of
-- returns  1 sent · 0 it is not queued, or somebody else sent one meanwhile
local ref = ARGV[1]
if field(ref, 'state') ~= 'queued' or field(ref, 'sent') ~= ARGV[2] then
  return 0
end
send_ticket(ref)
return 1
