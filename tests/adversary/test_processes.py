"""Bugs of processes and stores: what is known to one of them only, or to the wrong one."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
from django.urls import URLPattern, URLResolver, get_resolver

from tests.adversary.gateway import (
    SCRIPTED,
    USD,
    Gateway,
    body_of,
    charge_of,
    until,
    whole_hold_body,
)
from tests.faults.http_client import Answer, Connection
from tests.relay.upstream.support import Peer


async def test_b7_a_call_whose_worker_is_killed_is_not_charged_for_nothing(
    empty_gateway: Gateway,
) -> None:
    """Others refund what they never collected, or collect later for what nobody got."""
    gateway = empty_gateway
    asked = asyncio.Event()
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        sent += 1
        asked.set()
        await peer.left()

    await gateway.scripted(script)
    customer = await gateway.customer(USD)
    process = await gateway.process()
    async with gateway.visit(customer, body_of(model=SCRIPTED), at=process) as visitor:
        await asked.wait()
        process.kill()
        assert await visitor.rest() == b""
    await gateway.worker()
    record = await gateway.record()
    assert (record.outcome, record.charge_nano_usd) == ("lost", 0)
    assert gateway.balance(customer) == USD
    # Nor does anybody send it again.
    assert (sent, gateway.arrived()) == (1, 0)


async def test_b8_a_budget_outlives_the_processes_that_count_it(empty_gateway: Gateway) -> None:
    """Others keep budgets in memory: each restart and each replica begins at zero."""
    gateway = empty_gateway
    body, cost = whole_hold_body()
    customer = await gateway.customer(10 * cost, strict=True)
    processes = await asyncio.gather(gateway.process(), gateway.process())
    for process in (*processes, *processes):
        assert (await gateway.call(customer, body, at=process)).status == 200
    for process in processes:
        process.kill()
    workers = [await gateway.worker() for _ in range(2)]
    turns = itertools.islice(itertools.cycle(workers), 20)
    statuses = [(await gateway.call(customer, body, at=worker)).status for worker in turns]
    assert (statuses.count(200), statuses.count(429)) == (6, 14)
    assert gateway.arrived() == 10
    assert {record.charge_nano_usd for record in await gateway.records(10)} == {cost}
    assert gateway.balance(customer) == 0


# What OpenAI's API offers under its prefix, and what gateways like to add.
ENDPOINTS = [
    "",
    "assistants",
    "audio/speech",
    "audio/transcriptions",
    "batches",
    "chat/completions",
    "chat/completions/",
    "chat/completions/chatcmpl-1",
    "chat//completions",
    "v1/chat/completions",
    "completions",
    "conversations",
    "embeddings",
    "files",
    "fine_tuning/jobs",
    "images/generations",
    "messages",
    "models",
    "models/adversary-model",
    "moderations",
    "realtime",
    "responses",
    "simulator/requests",
    "threads",
    "uploads",
    "vector_stores",
    "videos",
]
PREFIXES = ["", "v1", "openai", "openai/v1", "api/openai/v1", "v1/{slug}/default/openai"]


def control_plane_paths(patterns: Any = None, before: str = "/") -> Iterator[str]:
    """Every path that Django serves, with something where it takes arguments."""
    for pattern in get_resolver("gateway.urls").url_patterns if patterns is None else patterns:
        route = str(getattr(pattern.pattern, "_route", "")).replace("<path:object_id>", "1")
        if isinstance(pattern, URLResolver):
            yield from control_plane_paths(pattern.url_patterns, before + route)
        elif isinstance(pattern, URLPattern) and "<" not in route:
            yield before + route


async def test_b9_no_way_to_an_upstream_goes_past_the_money(empty_gateway: Gateway) -> None:
    """Others have routes, older ones or passed through, that reach upstream without a check."""
    gateway = empty_gateway
    pauper, payer = await gateway.customer(0), await gateway.customer(USD)
    process = await gateway.process()
    relay_paths = [
        f"/{prefix}/{endpoint}".replace("//", "/", 1)
        for prefix in PREFIXES
        for endpoint in ENDPOINTS
    ]
    paths = [*relay_paths, *control_plane_paths()]
    assert len(paths) > len(relay_paths) + 20
    async with Connection(process.port) as link:
        for path in paths:
            await link.post(path.format(slug=pauper.slug), pauper.api_key, body_of())
            await link.get(path.format(slug=pauper.slug), pauper.api_key)
        assert gateway.arrived() == 0
        served = [
            path
            for path in relay_paths
            if (await link.post(path.format(slug=payer.slug), payer.api_key, body_of())).status
            == 200
        ]
    assert len(served) >= len(PREFIXES)
    assert all("chat" in path for path in served), served
    # Whatever arrived has its record and its hold, and its charge unless upstream refused it.
    records = await gateway.records(gateway.arrived())
    assert all(record.hold_nano_usd >= record.charge_nano_usd for record in records)
    assert all(record.hold_nano_usd > 0 for record in records)
    assert sum(record.charge_nano_usd > 0 for record in records) == len(served)
    refused = [record for record in records if not record.charge_nano_usd]
    assert {record.outcome for record in refused} <= {"upstream_error"}


async def test_b40_a_worker_killed_before_its_commit_loses_no_record(
    empty_gateway: Gateway,
) -> None:
    """Others take records off a queue, and then fail to write them where they belong."""
    gateway = empty_gateway
    customer = await gateway.customer(USD)
    process = await gateway.process()
    knobs = {"prompt_tokens": 9, "completion_tokens": 2}
    answers: list[Answer] = []

    async def call(count: int) -> None:
        body = body_of(simulate=knobs)
        answers.extend([await gateway.call(customer, body, at=process) for _ in range(count)])

    await call(3)
    await gateway.records(3)
    with psycopg.connect(gateway.database_url) as other:
        other.execute("LOCK TABLE billing_usagerecord IN ACCESS EXCLUSIVE MODE")
        await call(5)
        # The shipper has read them, and waits in the middle of its transaction.
        await until(
            lambda: gateway.bank.number(
                "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
                " WHERE NOT l.granted AND c.relname = 'billing_usagerecord'"
            ),
            "the shipper",
        )
        process.kill()
    await gateway.worker()
    records = await gateway.records(8)
    ids = {f"req_{record.request_id.hex}" for record in records}
    assert ids == {answer.headers["x-request-id"] for answer in answers if answer.is_whole}
    assert {record.charge_nano_usd for record in records} == {charge_of(9, 2)}
    assert gateway.balance(customer) == USD - 8 * charge_of(9, 2)


async def test_b41_what_redis_says_of_money_is_not_believed(empty_gateway: Gateway) -> None:
    """Others ask Redis for the balance: flushed, stale or forged, it decides who is served."""
    gateway = empty_gateway

    connections: set[asyncio.StreamWriter] = set()

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """To every command: nine trillion."""
        connections.add(writer)
        with suppress(ConnectionError):
            while asked := await reader.read(65_536):
                writer.write(b":9000000000000\r\n" * max(1, asked.count(b"*")))
        writer.close()

    liar = await asyncio.start_server(lie, "127.0.0.1", 0)
    port = liar.sockets[0].getsockname()[1]
    pauper, payer = await gateway.customer(0), await gateway.customer(USD)
    process = await gateway.process(REDIS_URL=f"redis://127.0.0.1:{port}/0")
    body = body_of(simulate={"prompt_tokens": 9, "completion_tokens": 2})
    for calls in (1, 2):
        assert (await gateway.call(payer, body, at=process)).status == 200
        assert (await gateway.call(pauper, body, at=process)).status == 429
        await gateway.records(calls)
        async with Connection(process.port) as link:
            for customer, balance in ((pauper, 0), (payer, USD - calls * charge_of(9, 2))):
                usage = json.loads((await link.get("/v1/usage", customer.api_key)).body)
                assert usage["balance_nano_usd"] == balance
        # The second time Redis is dead.
        liar.close()
        for writer in connections:
            writer.transport.abort()


async def test_b41_more_workers_are_not_more_money(empty_gateway: Gateway) -> None:
    """Others load the balance into a shared counter at each start: n processes, n times as much."""
    gateway = empty_gateway
    body, cost = whole_hold_body()
    customer = await gateway.customer(6 * cost, strict=True)
    workers = await asyncio.gather(*(gateway.worker() for _ in range(4)))
    for worker in workers:
        assert (await gateway.call(customer, body, at=worker)).status == 200
    assert gateway.balance(customer) <= 6 * cost
    answers = [await gateway.call(customer, body, at=worker) for worker in (*workers, *workers)]
    statuses = [answer.status for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (2, 6)
    await gateway.records(6)
    assert gateway.balance(customer) == 0
