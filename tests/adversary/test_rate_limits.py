"""Rate limits as clients see them, on real workers: counted together, told right, given back."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable

import openai
import pytest

from accounts.models import ApiKey, Organization
from billing.limits import LimitScope, limit_scope_of, rate_limit_set
from relay.limits.limiter import RateLimits
from relay.limits.window import WINDOW_SECONDS
from tests.adversary.gateway import (
    MODEL,
    USD,
    Customer,
    Gateway,
    Worker,
    body_of,
    until,
)
from tests.factories import ACTOR
from tests.faults.http_client import Answer

BODY = body_of(max_tokens=10)
SLOW_BODY = body_of(max_tokens=10, simulate={"delay_ms": 1_500})


async def limit(gateway: Gateway, scope: Callable[[], LimitScope | str], **rates: int) -> None:
    """Set it, and wait until every worker goes by it."""
    await gateway.change(lambda: rate_limit_set(scope=scope(), rates=rates, actor=ACTOR))


async def limited(gateway: Gateway, **rates: int) -> Customer:
    customer = await gateway.customer(10 * USD)
    await limit(gateway, lambda: limit_scope_of(organization=customer.slug), **rates)
    return customer


def limits_of(worker: Worker) -> RateLimits:
    return worker.application._runtime.limits


def running(gateway: Gateway, customer: Customer) -> int:
    return limits_of(gateway.workers[0]).running(f"organization:{customer.id}")


def rate_headers(answer: Answer) -> dict[str, str]:
    start = "x-ratelimit-"
    return {n.removeprefix(start): v for n, v in answer.headers.items() if n.startswith(start)}


async def test_no_limit_means_no_headers(gateway: Gateway) -> None:
    customer, other = await gateway.customer(USD), await limited(gateway, calls_per_minute=1)
    assert not rate_headers(await gateway.call(customer, BODY))
    assert rate_headers(await gateway.call(other, BODY))


async def test_the_refusal_names_the_limit_and_when_to_come_again(gateway: Gateway) -> None:
    customer = await limited(gateway, calls_per_minute=2)
    answers = [await gateway.call(customer, BODY) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [rate_headers(answer) for answer in answers[:2]] == [
        {"limit-requests": "2", "remaining-requests": left, "reset-requests": "1m0s"}
        for left in ("1", "0")
    ]
    refused = answers[2]
    assert refused.headers["content-type"] == "application/json"
    error = json.loads(refused.body)["error"]
    assert (error["type"], error["code"], error["param"]) == (
        "requests",
        "rate_limit_exceeded",
        None,
    )
    named = f"calls per minute of organization {customer.slug}: limit 2, used 2"
    assert error["message"].startswith(f"Rate limit reached: {named}. Please try again in ")
    assert 50 <= int(refused.headers["retry-after"]) <= 60
    assert 50_000 <= int(refused.headers["retry-after-ms"]) <= 60_000
    assert "x-should-retry" not in refused.headers
    assert rate_headers(refused)["remaining-requests"] == "0"
    # It was neither charged nor sent.
    await gateway.records(2)
    assert gateway.arrived() == 2


async def test_streams_have_the_headers_too(gateway: Gateway) -> None:
    customer = await limited(gateway, calls_per_minute=5, tokens_per_minute=1_000_000)
    answer = await gateway.call(customer, body_of(max_tokens=10, stream=True))
    headers = rate_headers(answer)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (headers["limit-requests"], headers["limit-tokens"]) == ("5", "1000000")
    assert 0 < int(headers["remaining-tokens"]) < 1_000_000


async def test_the_most_restrictive_scope_is_shown(gateway: Gateway) -> None:
    customer = await limited(gateway, calls_per_minute=10)
    await limit(gateway, lambda: MODEL, calls_per_minute=3)
    assert rate_headers(await gateway.call(customer, BODY))["limit-requests"] == "3"
    for _ in range(2):
        await gateway.call(customer, BODY)
    refused = await gateway.call(customer, BODY)
    assert f"of model {MODEL}: limit 3" in json.loads(refused.body)["error"]["message"]
    # The organization's limit has not counted what the model's refused.
    await limit(gateway, lambda: MODEL, calls_per_minute=100)
    assert rate_headers(await gateway.call(customer, BODY))["remaining-requests"] == "6"


async def test_a_key_limit_counts_for_its_successors(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)

    def key() -> LimitScope:
        return limit_scope_of(key=ApiKey.objects.get(organization_id=customer.id).prefix)

    await limit(gateway, key, calls_per_minute=1)
    assert (await gateway.call(customer, BODY)).status == 200
    refused = await gateway.call(customer, BODY)
    message = json.loads(refused.body)["error"]["message"]
    assert "calls per minute of key " in message
    assert customer.api_key not in message


async def test_workers_count_together(empty_gateway: Gateway) -> None:
    gateway = empty_gateway
    workers = [await gateway.worker() for _ in range(4)]
    customer = await limited(gateway, calls_per_minute=20)
    answers = await asyncio.gather(
        *(gateway.call(customer, BODY, at=workers[n % 4]) for n in range(200))
    )
    assert Counter(answer.status for answer in answers) == {200: 20, 429: 180}


async def test_tokens_are_corrected_by_what_was_used(gateway: Gateway) -> None:
    customer = await limited(gateway, tokens_per_minute=1_000)
    knobs = {"prompt_tokens": 30, "completion_tokens": 20}
    first = await gateway.call(customer, body_of(max_tokens=800, simulate=knobs))
    assert int(rate_headers(first)["remaining-tokens"]) < 200
    second = await gateway.call(customer, body_of(max_tokens=10, simulate=knobs))
    assert 700 < int(rate_headers(second)["remaining-tokens"]) < 950
    large = {"prompt_tokens": 30, "completion_tokens": 2_000}
    # Upstream goes beyond what was asked for, and that counts.
    await gateway.call(customer, body_of(max_tokens=10, simulate=large))
    refused = await gateway.call(customer, BODY)
    error = json.loads(refused.body)["error"]
    assert (refused.status, error["type"]) == (429, "tokens")


async def test_slots_are_free_again_however_a_call_ends(gateway: Gateway) -> None:
    customer = await limited(gateway, concurrency=1)
    endings = {
        "answered": BODY,
        "streamed": body_of(max_tokens=10, stream=True),
        "refused upstream": body_of(simulate={"status": 400}),
        "failed upstream": body_of(simulate={"status": 500}),
        "invalid": body_of(max_tokens=-1),
        "no price": body_of(model="no-such-model"),
    }
    for ending, body in endings.items():
        answer = await gateway.call(customer, body)
        assert answer.status != 429, ending
        await until(lambda: not running(gateway, customer), ending)
    async with gateway.visit(customer, SLOW_BODY):
        await until(lambda: running(gateway, customer), "the call")
        refused = await gateway.call(customer, BODY)
        assert refused.status == 429
        assert refused.headers["retry-after"] == "1"
    await until(lambda: not running(gateway, customer), "the end of a call without its client")


async def test_slots_of_a_killed_worker_are_free_within_seconds(empty_gateway: Gateway) -> None:
    gateway = empty_gateway
    doomed, worker = await gateway.process(), await gateway.worker()
    customer = await limited(gateway, concurrency=1)
    async with gateway.visit(customer, SLOW_BODY, at=doomed):
        await until(lambda: running(gateway, customer), "the call")
        assert (await gateway.call(customer, BODY, at=worker)).status == 429
        doomed.kill()
        await until(lambda: not running(gateway, customer), "the slot")
    assert (await gateway.call(customer, BODY, at=worker)).status == 200


async def test_the_official_sdk_waits_and_gets_through(gateway: Gateway) -> None:
    customer = await limited(gateway, calls_per_minute=1)
    limits = limits_of(gateway.workers[0])
    # Somebody called 58.5 s ago.
    (counter,) = limits._organizations[customer.id]
    assert limits._table is not None
    then = time.monotonic() - WINDOW_SECONDS + 1.5
    limits._table._counts.take([(counter, 1)], now=then, owner=0)
    url = f"http://127.0.0.1:{gateway.workers[0].port}/v1"
    message = {"role": "user", "content": "Hello"}
    async with openai.AsyncOpenAI(base_url=url, api_key=customer.api_key, max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model=MODEL, messages=[message], max_tokens=5)  # type: ignore[list-item]  # The SDK's own type.
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.response.headers["retry-after"] in ("1", "2")
    async with openai.AsyncOpenAI(base_url=url, api_key=customer.api_key, max_retries=1) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=[message],  # type: ignore[list-item]  # The SDK's own type.
            max_tokens=5,
        )
    assert raw.retries_taken == 1
    assert raw.headers["x-ratelimit-remaining-requests"] == "0"


async def test_a_changed_limit_is_in_force_at_once_and_forgets_nothing(gateway: Gateway) -> None:
    customer = await limited(gateway, calls_per_minute=5)
    for _ in range(3):
        assert (await gateway.call(customer, BODY)).status == 200

    def organization() -> LimitScope:
        return LimitScope(organization=Organization.objects.get(pk=customer.id))

    await limit(gateway, organization, calls_per_minute=3)
    assert (await gateway.call(customer, BODY)).status == 429
    nothing = {"calls_per_minute": None}
    await gateway.change(lambda: rate_limit_set(scope=organization(), rates=nothing, actor=ACTOR))
    answer = await gateway.call(customer, BODY)
    assert answer.status == 200
    assert not rate_headers(answer)
    await limit(gateway, organization, calls_per_minute=3)
    assert (await gateway.call(customer, BODY)).status == 429
