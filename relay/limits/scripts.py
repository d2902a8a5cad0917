"""What Redis does for the nodes at once, in Lua: each script is atomic.

A counter of a minute is a hash of quarters of a second and what was used in them; one of calls at
once is a hash of workers and "count:expiry". What cannot be read as such counts as nothing.
"""

from typing import Final

from relay.limits.window import CELLS, TICKS_PER_SECOND

_COMMON: Final = f"""
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now = math.floor(now_ms * {TICKS_PER_SECOND} / 1000)

local function window(key)
    local flat, cells, used = redis.call('HGETALL', key), {{}}, 0
    for i = 1, #flat, 2 do
        local tick, count = tonumber(flat[i]), tonumber(flat[i + 1])
        if tick and count and tick > now - {CELLS} and tick <= now and count > 0 then
            cells[tick] = count
            used = used + count
        else
            redis.call('HDEL', key, flat[i])
        end
    end
    return cells, used
end

local function slots(key)
    local flat, used = redis.call('HGETALL', key), 0
    for i = 1, #flat, 2 do
        local count, expiry = string.match(flat[i + 1], '^(%d+):(%d+)$')
        if count and tonumber(expiry) > now_ms then
            used = used + tonumber(count)
        else
            redis.call('HDEL', key, flat[i])
        end
    end
    return used
end

local function hold(key, worker, count, ms)
    if count > 0 then
        redis.call('HSET', key, worker, string.format('%d:%d', count, now_ms + ms))
        redis.call('PEXPIRE', key, ms)
    else
        redis.call('HDEL', key, worker)
    end
end
"""

# ARGV: worker, milliseconds that slots last, then of each key: kind, limit, need, wish.
# Answers with 1 and what was given of each, or with 0 and of each: used, milliseconds to wait.
TAKE: Final = (
    _COMMON
    + f"""
local worker, slot_ms = ARGV[1], tonumber(ARGV[2])
local looks, used_of, is_free = {{}}, {{}}, true
for i, key in ipairs(KEYS) do
    local at = 4 * i - 1
    local limit, need, wait = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), 0
    local used, cells
    if ARGV[at] == 'slots' then
        used = slots(key)
        if used + need > limit then wait = 1000 end
    else
        cells, used = window(key)
        local excess, freed = used + need - limit, 0
        if excess > 0 then
            for tick = now - {CELLS} + 1, now do
                freed = freed + (cells[tick] or 0)
                if freed >= excess then
                    wait = math.max(1, (tick + {CELLS}) * {1000 // TICKS_PER_SECOND} - now_ms)
                    break
                end
            end
            if wait == 0 then wait = 60000 end
        end
    end
    if wait > 0 then is_free = false end
    used_of[i] = used
    looks[#looks + 1] = used
    looks[#looks + 1] = wait
end
if not is_free then return {{0, unpack(looks)}} end
local given = {{}}
for i, key in ipairs(KEYS) do
    local at = 4 * i - 1
    local need, wish = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    local free = tonumber(ARGV[at + 1]) - used_of[i]
    local amount = math.max(need, math.min(wish, math.floor(free / 8)))
    if ARGV[at] == 'slots' then
        local own = string.match(redis.call('HGET', key, worker) or '', '^(%d+):')
        hold(key, worker, (tonumber(own) or 0) + amount, slot_ms)
    else
        redis.call('HINCRBY', key, now, amount)
        redis.call('EXPIRE', key, 61)
    end
    given[i] = amount
end
return {{1, unpack(given)}}
"""
)

# ARGV: worker, milliseconds that slots last, then of each key: kind, amount. Of calls at once, the
# amount is what the worker holds; of a minute, what it used more, or less, than it has taken. What
# was not used is taken from the oldest: what stays counted is never forgotten too soon.
SETTLE: Final = (
    _COMMON
    + """
for i, key in ipairs(KEYS) do
    local amount = tonumber(ARGV[2 * i + 2])
    if ARGV[2 * i + 1] == 'slots' then
        slots(key)
        hold(key, ARGV[1], amount, tonumber(ARGV[2]))
    elseif amount > 0 then
        redis.call('HINCRBY', key, now, amount)
        redis.call('EXPIRE', key, 61)
    elseif amount < 0 then
        local cells, ticks = window(key), {}
        for tick, _ in pairs(cells) do ticks[#ticks + 1] = tick end
        table.sort(ticks)
        for _, tick in ipairs(ticks) do
            local part = math.min(cells[tick], -amount)
            redis.call('HINCRBY', key, tick, -part)
            amount = amount + part
            if amount == 0 then break end
        end
    end
end
return 1
"""
)
