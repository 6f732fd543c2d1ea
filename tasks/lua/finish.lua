#!lua flags=allow-oom
-- Ends a job we still own: the last events, the terminal one, the record.
-- keys: files, and what ending a job touches
-- args: 1 job id, 2 epoch, 3 attempt, 4 final state, 5 terminal event, 6 journal ttl ms,
--       7 number of the first pending event, 8 how many are pending, 9.. these, then pairs of record field and value
-- reply: 1, or 0 when the job is no longer ours
local id = ARGV[1]
if not owns(id, ARGV[2], ARGV[3]) then return 0 end
local fields = 9 + tonumber(ARGV[8])
write(id, tonumber(ARGV[7]), 9, fields - 1)
for i = fields, #ARGV, 2 do
  redis.call('HSET', K.job .. id, ARGV[i], ARGV[i + 1])
  if ARGV[i] == 'output' then
    for _, ref in ipairs(cjson.decode(ARGV[i + 1])) do refer(ref.path) end
  end
end
end_job(id, ARGV[4], ARGV[5], clock_ms(), ARGV[6])
return 1
