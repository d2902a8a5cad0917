"""200 parallel calls on the free quota for ten, over two workers."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import httpx2

from tests.end_to_end.live import WORKERS, LiveGateway, wait_for
from tests.end_to_end.support import (
    CHAT,
    Customer,
    Upstream,
    charge_of,
    chat_body,
    error_of,
    new_tag,
    organization_create,
)

CALLS = 200
AFFORDABLE = 10
OUTPUT_TOKENS = 256
CHARGE = charge_of(8, OUTPUT_TOKENS)
# The hold bounds the prompt by the body's bytes; the last call needs room for that too.
SLACK = CHARGE // 2


async def burst(customer: Customer, body: bytes) -> list[httpx2.Response]:
    """All calls at once, each worker's share over connections that it has accepted before."""
    gateway, share = customer.gateway, CALLS // WORKERS
    limits = httpx2.Limits(max_connections=share, max_keepalive_connections=share)
    async with AsyncExitStack() as stack:
        clients = []
        for worker in gateway.workers:
            client = httpx2.AsyncClient(base_url=gateway.origin, timeout=60, limits=limits)
            clients.append(await stack.enter_async_context(client))
            with gateway.alone(worker):
                await asyncio.gather(*(client.get("/healthz") for _ in range(share)))
        calls = [
            client.post(CHAT, content=body, headers=customer.authorization)
            for client in clients * share
        ]
        return await asyncio.gather(*calls)


async def test_parallel_calls_never_spend_more_than_there_is(
    gateway: LiveGateway, http: httpx2.Client, upstream: Upstream
) -> None:
    quota = AFFORDABLE * CHARGE + SLACK
    name = ("Crowd", "--quota", f"{quota / 10**9:.9f}")
    crowd = organization_create(gateway, http, *name)
    assert crowd.balance() == quota
    tag = new_tag()
    knobs = {"tag": tag, "completion_tokens": OUTPUT_TOKENS, "delay_ms": 20}
    request = http.build_request("POST", CHAT, json=chat_body(n=1, max_tokens=256, simulate=knobs))

    replies = await burst(crowd, request.read())

    statuses = Counter(reply.status_code for reply in replies)
    assert statuses.keys() == {200, 429}, statuses
    assert 1 <= statuses[200] <= AFFORDABLE
    assert upstream.count(tag) == statuses[200]
    for reply in replies:
        if reply.status_code == 429:
            assert error_of(reply)["code"] == "insufficient_quota"
            assert reply.headers["x-should-retry"] == "false"
    passed = {reply.headers["x-request-id"] for reply in replies if reply.status_code == 200}
    wait_for(lambda: len(crowd.records(limit=100)) == len(passed), "the records")
    records = crowd.records(limit=100)
    assert {record["request_id"] for record in records} == passed
    assert all(record["charge_nano_usd"] == CHARGE for record in records)
    assert crowd.balance() == quota - CHARGE * len(passed)

    def the_rest_is_spent() -> bool:
        crowd.post(request.content)
        return upstream.count(tag) == AFFORDABLE

    # Money that was set aside for nothing comes back: in the end exactly ten were served.
    wait_for(the_rest_is_spent, "the calls that are still affordable")
    assert crowd.post(request.content).status_code == 429
    wait_for(lambda: crowd.balance() == SLACK, "all charges")
    assert gateway.manage("audit") == {"ok": True, "findings": []}
