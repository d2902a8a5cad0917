"""Ways to be served without being metered: they lead nowhere, as a client and the books see it."""

import asyncio
import json
from typing import Any

import pytest

from relay.endpoints.table import ID
from tests.adversary.gateway import USD, Gateway
from tests.relay.surface.calls import EXAMPLES, OFFERED, created, error_of, send

JSON, NO_BODY = b"application/json", (b"", b"")
LATER = [
    "POST batches",
    "GET batches",
    "GET batches/batch_1",
    "POST batches/batch_1/cancel",
    "POST files",
    "GET files/file-1/content",
    "POST uploads",
    "POST videos",
    "GET videos/video_1/content",
    "POST fine_tuning/jobs",
    "POST threads/runs",
    "POST vector_stores",
    "POST conversations",
    "POST containers",
]
REALTIME = [
    "POST realtime/sessions",
    "POST realtime/client_secrets",
    "POST realtime/transcription_sessions",
    "POST realtime/calls",
    "GET realtime",
]
UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec_websocket_version": "13",
    "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def test_b38_polling_is_recorded_each_time_and_never_charged(shop: Gateway) -> None:
    customer = await shop.customer(USD)
    one = await created(shop, customer)
    (paid,) = await shop.records(1)
    balance = shop.balance(customer)
    assert balance == USD - paid.charge_nano_usd < USD
    for _ in range(5):
        for name in ("GET responses/{id}", "GET responses/{id}/input_items"):
            answer = await send(shop.workers[0], customer, name.replace(ID, one))
            assert answer.status == 200
            if name == "GET responses/{id}":  # Each of them tells the usage that was paid once.
                assert json.loads(answer.body)["usage"]["output_tokens"] > 0
    records = await shop.records(11)
    assert sum(record.charge_nano_usd for record in records) == paid.charge_nano_usd
    assert shop.balance(customer) == balance


@pytest.mark.parametrize("value", [True, 1, "true", {"mode": "x"}])
async def test_b38_what_would_be_finished_later_is_refused(shop: Gateway, value: Any) -> None:
    customer = await shop.customer(USD)
    for more in ({}, {"stream": True}, {"store": True}):
        body = EXAMPLES["POST responses"].body(background=value, **more)
        answer = await send(shop.workers[0], customer, "POST responses", body)
        assert (answer.status, error_of(answer)["param"]) == (400, "background")
    twice = EXAMPLES["POST responses"].body()[0].replace(b"{", b'{"background":false,', 1)
    twice = twice.replace(b"}", b',"b\\u0061ckground":true}')
    answer = await send(shop.workers[0], customer, "POST responses", (twice, JSON))
    assert (answer.status, error_of(answer)["code"]) == (400, "duplicate_parameter")
    assert shop.arrived() == 0


async def test_b38_no_job_can_be_left_with_upstream(shop: Gateway) -> None:
    customer = await shop.customer(USD)
    body = EXAMPLES["POST responses"].body()
    for name in LATER:
        answer = await send(shop.workers[0], customer, name, body)
        assert answer.status == 404, name
        assert "is not offered" in error_of(answer)["message"], name
    assert shop.arrived() == 0


async def test_b39_there_is_no_way_in_by_websocket(shop: Gateway) -> None:
    customer = await shop.customer(USD)
    paths = {"/".join(row.path).replace(ID, "resp_1") for row in OFFERED.values()}
    answers = await asyncio.gather(
        *(
            send(shop.workers[0], customer, f"{method} {path}{query}", NO_BODY, **UPGRADE)
            for path in sorted({*paths, "realtime", "responses"})
            for method in ("GET", "POST")
            for query in ("", "?model=gpt-realtime")
        )
    )
    for answer in answers:
        assert 400 <= answer.status < 500, answer
        assert "sec-websocket-accept" not in answer.headers
        error_of(answer)
    assert shop.arrived() == 0


async def test_b39_nobody_gets_a_secret_to_talk_to_upstream_past_the_gateway(shop: Gateway) -> None:
    customer = await shop.customer(USD)
    for name in REALTIME:
        answer = await send(
            shop.workers[0], customer, name, (json.dumps({"model": "gpt-realtime"}).encode(), JSON)
        )
        assert answer.status == 404, name
        assert "is not offered" in error_of(answer)["message"], name
    assert shop.arrived() == 0
