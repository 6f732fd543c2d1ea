#!lua flags=no-writes
-- A queued job's place in the order of service, over all queues: 1 is next.
-- keys: job, queues, queue
-- args: 1 job id, 2.. the classes in the order of service
-- reply: the place, or false unless queued
local r = redis.call('HMGET', K.job .. ARGV[1], 'state', 'class', 'queue', 'order')
if r[1] ~= 'queued' then return false end
local rank = {}
for i = 2, #ARGV do rank[ARGV[i]] = i end
local ahead = 0
for _, name in ipairs(redis.call('SMEMBERS', K.queues)) do
  local class = string.match(name, '^[^.]+')
  if (rank[class] or math.huge) < rank[r[2]] then
    ahead = ahead + redis.call('ZCARD', K.queue .. name)
  elseif class == r[2] then
    ahead = ahead + redis.call('ZCOUNT', K.queue .. name, '-inf', '(' .. r[4])
  end
end
return ahead + 1
