"""Worker processes at ten times a limit: eight of one node, and four nodes that share by Redis.

(Eight nodes, without processes: tests/relay/limits/test_shares.py.)
"""

import asyncio
from collections import Counter
from itertools import cycle

from billing.limits import limit_scope_of, rate_limit_set
from tests.adversary.gateway import USD, Customer, Gateway, body_of
from tests.adversary.process import WorkerProcess
from tests.factories import ACTOR
from tests.faults.http_client import Answer
from tests.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]

WORKERS, NODES = 8, 4
LIMIT = 20
BODY = body_of(max_tokens=10)


async def limited(gateway: Gateway) -> Customer:
    customer = await gateway.customer(10 * USD)

    def limit() -> None:
        scope = limit_scope_of(organization=customer.slug)
        rate_limit_set(scope=scope, rates={"calls_per_minute": LIMIT}, actor=ACTOR)

    await gateway.operate(limit)
    return customer


async def burst(gateway: Gateway, customer: Customer, workers: list[WorkerProcess]) -> Counter[int]:
    """Ten times the limit, at once, evenly over all workers."""
    answers = await asyncio.gather(
        *(
            gateway.call(customer, BODY, at=workers[number % len(workers)])
            for number in range(10 * LIMIT)
        )
    )
    for answer in answers:
        check_head(answer)
    return Counter(answer.status for answer in answers)


def check_head(answer: Answer) -> None:
    """What a client reads off an answer, so that it comes again when there is room."""
    assert answer.headers["x-ratelimit-limit-requests"] == str(LIMIT)
    assert 0 <= int(answer.headers["x-ratelimit-remaining-requests"]) < LIMIT
    if answer.status == 429:
        seconds = int(answer.headers["retry-after"])
        assert 1 <= seconds <= 60
        assert 0 < int(answer.headers["retry-after-ms"]) <= 1000 * seconds
    else:
        assert "retry-after" not in answer.headers


async def test_workers_of_a_node_get_exactly_the_limit(empty_gateway: Gateway) -> None:
    gateway = empty_gateway
    customer = await limited(gateway)
    workers = await asyncio.gather(*(gateway.process() for _ in range(WORKERS)))
    assert await burst(gateway, customer, workers) == {200: LIMIT, 429: 9 * LIMIT}
    await gateway.records(LIMIT)
    assert gateway.arrived() == LIMIT


async def test_nodes_with_redis_never_exceed_it_and_use_all_of_it(
    empty_gateway: Gateway, redis_server: RedisServer
) -> None:
    gateway = empty_gateway
    customer = await limited(gateway)
    workers = await asyncio.gather(
        *(
            gateway.process(
                DATA_DIR=str(gateway.folder / f"node-{number}"), REDIS_URL=redis_server.url
            )
            for number in range(NODES)
        )
    )
    served = (await burst(gateway, customer, workers))[200]
    # A node may sit on a slice of one call, for a second; then it goes back to who needs it.
    assert LIMIT - NODES <= served <= LIMIT
    async with asyncio.timeout(30):
        for worker in cycle(workers):
            if served == LIMIT:
                break
            served += (await gateway.call(customer, BODY, at=worker)).status == 200
    assert await burst(gateway, customer, workers) == {429: 10 * LIMIT}
    await gateway.records(LIMIT)
    assert gateway.arrived() == LIMIT
    # Their journals are their own, so nobody else could settle what they leave.
    await asyncio.gather(*(worker.stop() for worker in workers))
