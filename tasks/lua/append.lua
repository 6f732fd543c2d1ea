#!lua flags=allow-oom
-- Appends events to the journal of a job we still own.
-- keys: job, journal
-- args: 1 job id, 2 epoch, 3 attempt, 4 number of the first event within the attempt, 5 progress or '', 6.. events
-- reply: 1, or 0 when the job is no longer ours
if not owns(ARGV[1], ARGV[2], ARGV[3]) then return 0 end
write(ARGV[1], tonumber(ARGV[4]), 6, #ARGV)
if ARGV[5] ~= '' then redis.call('HSET', K.job .. ARGV[1], 'progress', ARGV[5]) end
return 1
