#!lua flags=allow-oom
-- Moves a batch of /v1/batches that has not ended to another state.
-- keys: bulk
-- args: 1 id, 2 'cancelling' or 'finalizing', 3 and 4, for 'finalizing', the ids that its files are to have
-- reply: 1 when it is in that state now, else 0
local FROM = {
  cancelling = {validating = true, in_progress = true},
  finalizing = {in_progress = true, cancelling = true},
}
local bulk, wanted = K.bulk .. ARGV[1], ARGV[2]
local state = redis.call('HGET', bulk, 'state')
if state == wanted then return 1 end
if not FROM[wanted][state] then return 0 end
redis.call('HSET', bulk, 'state', wanted, wanted .. '_at', whole(clock_ms()))
if wanted == 'finalizing' then redis.call('HSET', bulk, 'output', ARGV[3], 'error', ARGV[4]) end
return 1
