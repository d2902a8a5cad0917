"""Limits that nodes share by Redis, and what happens without it: F10."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from billing.limits import RateTable, ScopeRates
from relay.errors import RelayError
from relay.limits.limiter import Permit, RateLimits
from relay.limits.shares import SLICES
from tests.redis_server import RedisServer
from tests.relay.test_admission import principal_with

NODES = 8
PATIENCE_SECONDS = 20.0
MODEL = "a-model"


@asynccontextmanager
async def nodes(
    folder: Path, url: str, number: int, *, patience: float = PATIENCE_SECONDS, **rates: int
) -> AsyncIterator[list[RateLimits]]:
    """Each with a data directory, and so with counts, of its own.

    They are more patient than real ones: this machine may be busy with other things.
    """
    scope = ScopeRates("model:a-model", "model a-model", **rates)
    all_of_them = [
        RateLimits(
            folder / f"node-{n}",
            realm="a database",
            redis_url=url,
            redis_patience_seconds=patience,
        )
        for n in range(number)
    ]
    for node in all_of_them:
        node.start()
        node.load(RateTable(0, {}, {}, {}, {MODEL: scope}))
    await until(lambda: not any(map(is_away, all_of_them)))
    yield all_of_them
    for node in all_of_them:
        await node.stop()


async def call(node: RateLimits, tokens: int = 0) -> Permit | None:
    """None: it was refused."""
    try:
        return await node.admit(principal_with(), MODEL, tokens=tokens)
    except RelayError as error:
        if error.code != "rate_limit_exceeded":
            raise
        return None


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


def is_away(node: RateLimits) -> bool:
    assert node._shares is not None
    return node._shares.is_away


def slices(all_of_them: list[RateLimits]) -> int:
    return sum(node._shares.slices for node in all_of_them if node._shares is not None)


async def test_eight_nodes_at_ten_times_the_limit_stay_within_the_drift(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    limit = 2_000
    async with nodes(tmp_path, redis_server.url, NODES, calls_per_minute=limit) as all_of_them:
        passed = 0
        for _ in range(10 * limit // 400):
            calls = [call(all_of_them[n % NODES]) for n in range(400)]
            passed += sum(permit is not None for permit in await asyncio.gather(*calls))
        assert not any(map(is_away, all_of_them))
        # Nothing is used that was not taken, so there is never more than the limit in all; and
        # less by no more than what each node has taken and not used yet.
        drift = NODES * max(1, limit // SLICES)
        assert limit - drift <= passed <= limit
        asked = slices(all_of_them)
        assert asked < 10 * limit / 4, "Redis was asked for nearly every call"
        # What one node has left goes back, and another one gets it: none is refused while free.
        more = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while passed + more < limit:
                more += await call(all_of_them[0]) is not None
                await asyncio.sleep(0.005)
        await asyncio.sleep(0)
        assert passed + more == limit


async def test_steady_calls_below_the_limit_are_all_served_and_seldom_ask(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with nodes(tmp_path, redis_server.url, 2, calls_per_minute=100_000) as all_of_them:
        ways = itertools.cycle(all_of_them)
        for _ in range(3_000):
            assert await call(next(ways)) is not None
        assert not any(map(is_away, all_of_them))
        assert slices(all_of_them) < 100


async def test_slots_are_shared_and_those_of_a_node_that_vanished_come_back(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with nodes(tmp_path, redis_server.url, 3, concurrency=4) as (one, two, three):
        permits = [await call(one), await call(one), await call(two), await call(two)]
        assert all(permits)
        assert await call(three) is None
        assert permits[0] is not None
        permits[0].release()
        await _served(three)
        # As if the node had lost its power: it tells nobody anything any more.
        shares = two._shares
        assert shares is not None
        assert shares._beating is not None
        shares._beating.cancel()
        await _served(three)


async def _served(node: RateLimits) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await call(node) is None:
            await asyncio.sleep(0.05)


async def test_all_limits_of_a_call_or_none(tmp_path: Path, redis_server: RedisServer) -> None:
    rates = {"calls_per_minute": 10, "concurrency": 1}
    async with nodes(tmp_path, redis_server.url, 2, **rates) as (one, two):
        first = await call(one)
        assert first is not None
        for _ in range(50):
            assert await call(two) is None
        first.release()
        # Had the refused ones counted, there would be no calls left in this minute.
        await _served(two)


async def test_tokens_that_were_not_used_come_back(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with nodes(tmp_path, redis_server.url, 2, tokens_per_minute=1_000) as (one, two):
        first = await call(one, 900)
        assert first is not None
        assert await call(two, 900) is None
        first.release(50)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await call(two, 900) is None:
                await asyncio.sleep(0.05)


async def test_f10_without_redis_each_node_keeps_its_limits(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with nodes(tmp_path, redis_server.url, 2, calls_per_minute=10) as (one, two):
        assert await call(one) is not None
        redis_server.stop()
        for node, left in ((one, 9), (two, 10)):
            passed = [await call(node) is not None for _ in range(20)]
            assert sum(passed) == left
            assert is_away(node)
        redis_server.start()
        await until(lambda: not is_away(one) and not is_away(two))
        assert await call(one) is None


async def test_f10_a_redis_that_hangs_is_waited_for_once(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    rates = {"calls_per_minute": 100_000}
    async with nodes(tmp_path, redis_server.url, 1, patience=0.2, **rates) as (node,):
        redis_server.signal(signal.SIGSTOP)
        try:
            calls = await asyncio.gather(*(call(node) for _ in range(1_000)))
            assert all(calls)
            await until(lambda: is_away(node))
            # From now on it is a matter of memory: nothing yields to the event loop.
            admission = node.admit(principal_with(), MODEL, tokens=0)
            with pytest.raises(StopIteration):
                admission.send(None)
        finally:
            redis_server.signal(signal.SIGCONT)
        await until(lambda: not is_away(node))


async def test_f10_a_redis_that_was_emptied_or_filled_with_garbage_harms_nothing(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    rates = {"calls_per_minute": 1_000, "concurrency": 100}
    async with nodes(tmp_path, redis_server.url, 2, **rates) as all_of_them:
        for node in all_of_them:
            assert await call(node) is not None
        with redis_server.client() as client:
            client.flushall()
            client.script_flush()
            for node in all_of_them:
                assert await call(node) is not None
            for key in list(client.scan_iter("*")):
                client.hset(key, mapping={"garbage": "no number", "12": "x", "": ""})
            for node in all_of_them:
                assert all([await call(node) is not None for _ in range(30)])
            assert not any(map(is_away, all_of_them))
            for key in list(client.scan_iter("*")):
                client.set(key, "not even a hash")
            for node in all_of_them:
                assert all([await call(node) is not None for _ in range(60)])
            await until(lambda: all(client.type(key) == b"hash" for key in client.scan_iter("*")))
        await until(lambda: not any(map(is_away, all_of_them)))
