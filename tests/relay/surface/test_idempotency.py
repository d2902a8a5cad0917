"""Idempotency-Key: one call and one charge, however often and wherever the request is sent."""

import asyncio
import json
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from billing.engine import Connection
from relay.bodies.uploads import MEMORY_BYTES
from relay.endpoints.table import BodyKind
from relay.idempotency import calls as idempotency
from relay.idempotency import store as idempotency_store
from relay.idempotency.store import Earlier, Use, claim
from relay.jobs import idempotency_keys_delete
from relay.simulator.sounds import silence_make
from tests.adversary.gateway import SCRIPTED, USD, Customer, Gateway, body_of, until
from tests.adversary.upstream import STREAM_HEAD, end, said, usage_of
from tests.adversary.upstream import answer as whole_answer
from tests.faults.http_client import Answer
from tests.relay.endpoints.support import upstream_says
from tests.relay.simulator.support import BOUNDARY, Form
from tests.relay.surface.calls import BILLED, EXAMPLES, OFFERED, error_of, send
from tests.relay.upstream.support import Peer

CHAT = "POST chat/completions"
JSON = b"application/json"
FORMS = [name for name, row in BILLED.items() if row.body is BodyKind.MULTIPART]
KEY = {"idempotency_key": "order-66"}


async def chat(gateway: Gateway, customer: Customer, at: int = 0, **members: Any) -> Answer:
    """One call under the key, to this worker."""
    return await send(gateway.workers[at], customer, CHAT, (body_of(**members), JSON), **KEY)


def sent_again(body: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """As an SDK sends it a second time: of a form, the boundary is another one."""
    content, content_type = body
    one, other = BOUNDARY.encode(), b"another-boundary"
    return content.replace(one, other), content_type.replace(one, other)


def is_replay(answer: Answer, of: Answer) -> bool:
    assert answer.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in of.headers
    assert answer.headers["x-request-id"] == of.headers["x-request-id"]
    assert answer.headers["content-type"] == of.headers["content-type"]
    return (answer.status, answer.body) == (of.status, of.body)


def rows(gateway: Gateway) -> int:
    row = gateway.bank.connection.execute("SELECT count(*) FROM relay_idempotencykey").fetchone()
    assert row is not None
    return int(row[0])


async def test_f38_of_fifty_duplicates_one_is_called_and_charged(gateway: Gateway) -> None:
    await gateway.worker()
    customer = await gateway.customer(USD)
    knobs = {"delay_ms": 300}
    answers = await asyncio.gather(
        *(chat(gateway, customer, at % 2, simulate=knobs) for at in range(50))
    )
    assert gateway.arrived() == 1
    whole = [answer for answer in answers if answer.status == 200]
    (first,) = [answer for answer in whole if "idempotent-replayed" not in answer.headers]
    for answer in answers:
        if answer.status == 200:
            assert answer is first or is_replay(answer, first)
        else:
            assert (answer.status, error_of(answer)["code"]) == (409, "idempotency_key_in_use")
            assert answer.headers["retry-after"] == "1"
    for at in (0, 1):
        assert is_replay(await chat(gateway, customer, at, simulate=knobs), first)
    record = await gateway.record()
    assert gateway.balance(customer) == USD - record.charge_nano_usd < USD


async def test_f38_every_billed_endpoint_repeats_its_answer(shop: Gateway) -> None:
    other, customer = await shop.worker(), await shop.customer(USD)
    for name in BILLED:
        for more in ({}, EXAMPLES[name].streamed) if OFFERED[name].streamed else ({},):
            body, seen = EXAMPLES[name].body(**(more or {})), shop.arrived()
            key = {"idempotency_key": f"stream-{bool(more)}"}
            first = await send(shop.workers[0], customer, name, body, **key)
            assert (first.status, first.is_whole) == (200, True), (name, first.body)
            again = await send(other, customer, name, sent_again(body), **key)
            assert is_replay(again, first), name
            assert shop.arrived() == seen + 1, name
    records = await shop.records(shop.arrived())
    assert all(record.charge_nano_usd > 0 for record in records)


async def test_f38_another_body_is_refused(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    assert (await chat(gateway, customer)).status == 200
    answer = await chat(gateway, customer, n=2)
    assert (answer.status, error_of(answer)["code"]) == (422, "idempotency_key_reused")
    assert answer.headers["x-should-retry"] == "false"
    await gateway.record()


async def test_f38_of_an_upload_that_is_sent_five_times_at_once_one_is_charged(
    shop: Gateway,
) -> None:
    other, customer = await shop.worker(), await shop.customer(10 * USD)
    fields = {"model": "whisper-1", "simulate": json.dumps({"delay_ms": 500})}
    # Larger than what is kept in memory of a form.
    upload = Form(fields, silence_make(60, form="wav")).encoded()
    assert len(upload) > MEMORY_BYTES
    content_type = f"multipart/form-data; boundary={BOUNDARY}".encode()
    name, workers = "POST audio/transcriptions", (shop.workers[0], other)

    async def sent(at: int) -> Answer:
        body = (upload, content_type)
        return await send(
            workers[at % 2], customer, name, sent_again(body) if at > 2 else body, **KEY
        )

    answers = await asyncio.gather(*map(sent, range(5)))
    assert shop.arrived() == 1
    (first,) = [
        answer
        for answer in answers
        if answer.status == 200 and "idempotent-replayed" not in answer.headers
    ]
    for answer in answers:
        if answer.status == 200:
            assert answer is first or is_replay(answer, first)
        else:
            assert (answer.status, error_of(answer)["code"]) == (409, "idempotency_key_in_use")
    assert is_replay(await sent(4), first)
    (record,) = await shop.records(1)
    assert shop.balance(customer) == 10 * USD - record.charge_nano_usd < 10 * USD


async def test_f38_another_form_is_refused(shop: Gateway) -> None:
    customer = await shop.customer(USD)
    for name in FORMS:
        more = {"prompt": "another"} if "variations" not in name else {"user": "another"}
        body, other = EXAMPLES[name].body(), EXAMPLES[name].body(**more)
        assert (await send(shop.workers[0], customer, name, body, **KEY)).status == 200
        answer = await send(shop.workers[0], customer, name, other, **KEY)
        assert (answer.status, error_of(answer)["code"]) == (422, "idempotency_key_reused"), name
    await shop.records(len(FORMS))


async def test_half_an_upload_uses_no_key_up(shop: Gateway) -> None:
    customer = await shop.customer(USD)
    for name in FORMS:
        content, content_type = EXAMPLES[name].body()
        half = (content[: len(content) // 2], content_type)
        answer = await send(shop.workers[0], customer, name, half, **KEY)
        assert (answer.status, error_of(answer)["code"]) == (400, "invalid_form")
        answer = await send(shop.workers[0], customer, name, (content, content_type), **KEY)
        assert (answer.status, "idempotent-replayed" in answer.headers) == (200, False)
    await shop.records(len(FORMS))


async def test_a_key_is_of_one_organization_at_one_endpoint(shop: Gateway) -> None:
    one, other = await shop.customer(USD), await shop.customer(USD)
    for customer in (one, other):
        for name in (CHAT, "POST embeddings"):
            body = EXAMPLES[name].body()
            answer = await send(shop.workers[0], customer, name, body, **KEY)
            assert (answer.status, "idempotent-replayed" in answer.headers) == (200, False)
    assert len(await shop.records(4)) == shop.arrived() == rows(shop) == 4


async def test_what_is_free_or_automatic_leaves_the_database_alone(shop: Gateway) -> None:
    customer = await shop.customer(USD)
    for name, key in (
        ("POST moderations", "order-66"),
        (CHAT, "stainless-node-retry-0b1c"),
        ("POST audio/transcriptions", "stainless-python-retry-1"),
    ):
        for _ in range(2):
            body = EXAMPLES[name].body()
            answer = await send(shop.workers[0], customer, name, body, idempotency_key=key)
            assert (answer.status, "idempotent-replayed" in answer.headers) == (200, False)
    assert (shop.arrived(), rows(shop)) == (6, 0)


async def test_a_key_that_is_none_is_refused(shop: Gateway) -> None:
    customer = await shop.customer(USD)
    bad = ["", " ", "with blank", "x" * 256, "caf\u00e9", "a\r\nidempotency-key: b"]
    for name, key in [(name, key) for name in (CHAT, *FORMS) for key in bad]:
        body = EXAMPLES[name].body()
        answer = await send(shop.workers[0], customer, name, body, idempotency_key=key)
        assert answer.status == 400, (name, key)
        assert error_of(answer)["code"] == "invalid_idempotency_key"
    assert shop.arrived() == 0


NOTHING_CHARGED: list[tuple[int, dict[str, Any]]] = [
    (404, {"model": "no-such-model"}),
    (400, {"n": 0}),
    (502, {"simulate": {"status": 500}}),
    (503, {"simulate": {"status": 429}}),
    (200, {"stream": True, "simulate": {"fault": "error_event_first"}}),
]


async def test_what_cost_nothing_gives_the_key_back(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    for status, members in NOTHING_CHARGED:
        answer = await chat(gateway, customer, **members)
        assert (answer.status, "idempotent-replayed" in answer.headers) == (status, False)
        assert rows(gateway) == 0
    assert (await chat(gateway, customer)).status == 200


async def test_without_money_a_key_is_not_used_up(gateway: Gateway) -> None:
    poor = await gateway.customer(0)
    assert (await chat(gateway, poor)).status == 429
    assert rows(gateway) == 0


async def test_who_leaves_gets_the_answer_when_it_comes_back(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    members: dict[str, Any] = {
        "stream": True,
        "simulate": {"text": "one two three", "chunk_delay_ms": 30},
    }
    body = body_of(**members)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.workers[0].port)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nidempotency-key: order-66\r\n"
        f"authorization: Bearer {customer.api_key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await reader.readuntil(b"data:")
    writer.transport.abort()
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("completed", "upstream")
    answer = await chat(gateway, customer, **members)
    assert answer.headers["idempotent-replayed"] == "true"
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert b"three" in answer.body
    assert gateway.arrived() == 1


async def test_a_stream_that_broke_is_repeated_as_it_was(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    got = await upstream_says(gateway, STREAM_HEAD, said("one"), said(" two"))
    first = await chat(gateway, customer, model=SCRIPTED, stream=True)
    assert b"upstream_error" in first.body
    assert is_replay(await chat(gateway, customer, model=SCRIPTED, stream=True), first)
    assert (await gateway.record()).outcome == "interrupted"
    assert len(got) == 1


async def test_an_answer_that_is_too_large_is_told_of(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "MAX_ANSWER_BYTES", 300)
    customer = await gateway.customer(USD)
    first = await chat(gateway, customer)
    assert (first.status, len(first.body) > 300) == (200, True)
    answer = await chat(gateway, customer)
    error = error_of(answer)
    assert (answer.status, error["code"]) == (409, "idempotent_answer_not_kept")
    assert first.headers["x-request-id"] in error["message"]
    assert answer.headers["x-should-retry"] == "false"
    await gateway.record()


async def test_an_answer_that_is_still_being_stored_is_waited_for(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = await gateway.customer(USD)
    first = await chat(gateway, customer)
    await gateway.record()
    looks: list[Earlier | None] = []

    async def look(connection: Connection, use: Use) -> Earlier | None:
        looks.append(await claim(connection, use))
        return looks[-1]

    monkeypatch.setattr(idempotency_store, "claim", look)
    with psycopg.connect(gateway.database_url, autocommit=True) as other:
        stored = other.execute("SELECT status, headers, body FROM relay_idempotencykey").fetchone()
        assert stored is not None
        change = "UPDATE relay_idempotencykey SET status = %s, headers = %s, body = %s"
        other.execute(change, [None, None, None])
        asking = asyncio.create_task(chat(gateway, customer))
        await until(lambda: bool(looks), "somebody to look for the answer")
        other.execute(change, [stored[0], Jsonb(stored[1]), stored[2]])
    assert is_replay(await asking, first)
    assert gateway.arrived() == 1


async def test_a_server_that_stops_before_it_has_stored_costs_no_second_charge(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "ANSWER_SECONDS", 0.2)
    customer = await gateway.customer(USD)
    assert (await chat(gateway, customer)).status == 200
    record = await gateway.record()
    await gateway.execute("UPDATE relay_idempotencykey SET status=NULL, headers=NULL, body=NULL")
    error = error_of(await chat(gateway, customer))
    assert error["code"] == "idempotent_answer_not_kept"
    assert f"{record.charge_nano_usd} nano-USD" in error["message"]


async def test_a_call_that_a_crash_interrupted_may_be_made_again(empty_gateway: Gateway) -> None:
    gateway, asked = empty_gateway, asyncio.Event()
    first = await gateway.worker()
    process = await gateway.process()
    customer = await gateway.customer(USD)

    async def script(peer: Peer) -> None:
        await peer.request()
        if not asked.is_set():
            asked.set()
            await peer.left()
        await peer.send(whole_answer({"content": "x"}, usage=usage_of(1, 1)))
        await end(peer)

    await gateway.scripted(script)
    body = (body_of(model=SCRIPTED), JSON)
    doomed = asyncio.create_task(send(process, customer, CHAT, body, **KEY))
    await asked.wait()
    answer = await send(first, customer, CHAT, body, **KEY)
    assert error_of(answer)["code"] == "idempotency_key_in_use"
    process.kill()
    assert (await doomed).status == 0
    while answer.status != 200:
        answer = await send(first, customer, CHAT, body, **KEY)
        assert answer.status in (200, 409)
    lost, record = await gateway.records(2)
    assert (lost.outcome, lost.charge_nano_usd) == ("lost", 0)
    assert (record.outcome, record.charge_nano_usd > 0) == ("completed", True)
    assert is_replay(await send(first, customer, CHAT, body, **KEY), answer)


async def test_without_the_database_no_call_is_made_and_no_answer_withheld(
    gateway: Gateway,
) -> None:
    customer = await gateway.customer(USD)
    members: dict[str, Any] = {"simulate": {"delay_ms": 500}}
    running = asyncio.create_task(chat(gateway, customer, **members))
    await until(lambda: gateway.arrived() == 1, "the call at the upstream")
    with psycopg.connect(gateway.database_url) as away:
        away.execute("LOCK TABLE relay_idempotencykey IN ACCESS EXCLUSIVE MODE")
        first = await running
        assert first.status == 200
        refused = await send(
            gateway.workers[0], customer, CHAT, (body_of(), JSON), idempotency_key="other"
        )
        assert (refused.status, error_of(refused)["code"]) == (503, "service_unavailable")
    last = first
    for _ in range(100):
        last = await chat(gateway, customer, **members)
        if last.status == 200:
            break
        assert error_of(last)["code"] in ("idempotency_key_in_use", "idempotent_answer_not_kept")
        await asyncio.sleep(0.05)
    assert is_replay(last, first)
    assert gateway.arrived() == 1
    await until(lambda: rows(gateway) == 1, "the other key to be given back")


async def test_keys_are_bounded_in_number(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "MAX_KEYS", 2)
    monkeypatch.setattr(idempotency, "COUNT_EVERY", 1)
    customer = await gateway.customer(USD)
    body = (body_of(), JSON)
    statuses = [
        (await send(gateway.workers[0], customer, CHAT, body, idempotency_key=key)).status
        for key in ("one", "two", "three", "one")
    ]
    assert statuses == [200, 200, 429, 200]
    assert (gateway.arrived(), rows(gateway)) == (2, 2)


async def test_what_is_kept_is_bounded_in_bytes(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "MAX_KEPT_BYTES", 0)
    customer = await gateway.customer(USD)
    assert (await chat(gateway, customer)).status == 200
    assert error_of(await chat(gateway, customer))["code"] == "idempotent_answer_not_kept"


async def test_after_a_day_a_key_is_forgotten(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    assert (await chat(gateway, customer)).status == 200
    age = "UPDATE relay_idempotencykey SET created_at = created_at - interval '{} hours'"
    await gateway.execute(age.format(23))
    await gateway.operate(idempotency_keys_delete)
    assert rows(gateway) == 1
    await gateway.execute(age.format(2))
    # Even if the job has not come by yet, and with whatever body.
    answer = await chat(gateway, customer, n=2)
    assert (answer.status, "idempotent-replayed" in answer.headers) == (200, False)
    await gateway.execute(age.format(25))
    await gateway.operate(idempotency_keys_delete)
    assert rows(gateway) == 0
