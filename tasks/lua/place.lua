#!lua flags=no-writes
-- Queued jobs' places in the order of service, over all queues: 1 is next.
-- keys: job, queues, queue
-- args: 1 number of classes, then the classes in the order of service, then job ids
-- reply: for each job its place, or 0 unless queued
local rank, classes = {}, tonumber(ARGV[1])
for i = 2, classes + 1 do rank[ARGV[i]] = i end
local queues = {}
for _, name in ipairs(redis.call('SMEMBERS', K.queues)) do
  queues[#queues + 1] = {key = K.queue .. name, class = string.match(name, '^[^.]+')}
end
local places = {}
for i = classes + 2, #ARGV do
  local r = redis.call('HMGET', K.job .. ARGV[i], 'state', 'class', 'order')
  local place = 0
  if r[1] == 'queued' then
    place = 1
    for _, queue in ipairs(queues) do
      if (rank[queue.class] or math.huge) < rank[r[2]] then
        place = place + redis.call('ZCARD', queue.key)
      elseif queue.class == r[2] then
        place = place + redis.call('ZCOUNT', queue.key, '-inf', '(' .. r[3])
      end
    end
  end
  places[#places + 1] = place
end
return places
