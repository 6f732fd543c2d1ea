#!lua flags=allow-oom
-- Ends a job we still own: the last events, the terminal one, the record.
-- keys: files, spent, and what ending a job touches
-- args: 1 job id, 2 epoch, 3 attempt, 4 final state, 5 terminal event, 6 journal ttl ms,
--       7 number of the first pending event, 8 how many are pending, 9.. these, then pairs of record field and value
-- reply: 1, or 0 when the job is no longer ours
local id = ARGV[1]
if not owns(id, ARGV[2], ARGV[3]) then return 0 end
local fields = 9 + tonumber(ARGV[8])
write(id, tonumber(ARGV[7]), 9, fields - 1)
local spent, made
for i = fields, #ARGV, 2 do
  redis.call('HSET', K.job .. id, ARGV[i], ARGV[i + 1])
  if ARGV[i] == 'output' then
    for _, ref in ipairs(cjson.decode(ARGV[i + 1])) do refer(ref.path) end
  elseif ARGV[i] == 'usage' then
    local usage = cjson.decode(ARGV[i + 1])
    spent = usage.prompt_tokens + usage.completion_tokens
  elseif ARGV[i] == 'progress' then
    made = string.match(ARGV[i + 1], '^(%d+) %d* tokens$')
  end
end
-- A job that was cut short without a word on its usage has spent at least what it had made.
charge(id, spent or tonumber(made or 0), clock_ms())
end_job(id, ARGV[4], ARGV[5], clock_ms(), ARGV[6])
return 1
