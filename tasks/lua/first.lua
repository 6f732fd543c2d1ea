#!lua flags=allow-oom
-- Brings the newest message of a job to the head of its queue: Celery puts in at the left and takes from the right.
-- keys: the Celery queue
-- args: 1 job id, 2 queue
-- reply: 1, or 0 when no message of the job is among the newest
for _, message in ipairs(redis.call('LRANGE', ARGV[2], 0, 31)) do
  if string.find(message, ARGV[1], 1, true) then
    redis.call('LREM', ARGV[2], 1, message)
    redis.call('RPUSH', ARGV[2], message)
    return 1
  end
end
return 0
