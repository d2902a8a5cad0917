"""Faults F16 to F37 at every endpoint: what the client sees of them, and what the ledger says.

Faults of our own processes and stores have the numbers before these. Duplicates (F38) are in
test_idempotency, and streams that are left or not read (F34 to F36) in tests/relay/streams, too.
"""

import asyncio
import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from relay.configuration import runtime_settings
from relay.endpoints.table import ID, BodyKind
from relay.models import Channel
from tests.adversary.gateway import USD, Customer, Gateway, Record, Worker, until
from tests.faults.http_client import Answer
from tests.relay.surface.calls import BILLED, EXAMPLES, OFFERED, error_of, send

CALLED = [n for n, row in OFFERED.items() if row.body is not BodyKind.NONE and ID not in n]
STREAMED = [name for name in CALLED if OFFERED[name].streamed]
SPEECH = "POST audio/speech"
# Their streams end with [DONE], and usage may come again until then.
TO_DONE = ["POST chat/completions", "POST completions"]
# Answers that are read whole before the client gets any of them.
WHOLE = [name for name in CALLED if name != SPEECH]
ABSURD: list[dict[str, Any]] = [
    {"fault": "absurd_usage"},
    {"usage": "lots"},
    {"usage": {"input_tokens": 10**12, "output_tokens": -1, "total_tokens": None}},
    {"fault": "no_usage"},
]
tags = itertools.count()


class Faulty:
    """A customer whose every call names what its upstream does."""

    def __init__(self, gateway: Gateway, customer: Customer, worker: Worker) -> None:
        self.gateway = gateway
        self.customer = customer
        self.worker = worker

    async def call(
        self, name: str, *, stream: bool = False, reached: int = 1, **knobs: Any
    ) -> tuple[Answer, Record]:
        # No fault is to be spared the next one.
        self.worker.application._runtime.traffic._circuits.clear()
        tag = f"fault-{next(tags)}"
        more = (EXAMPLES[name].streamed or {}) if stream else {}
        body = EXAMPLES[name].body(**more, simulate=knobs | {"tag": tag})
        answer = await send(self.worker, self.customer, name, body)
        assert self.gateway.arrived(tag) == reached, name
        return answer, await self.record_of(answer)

    async def record_of(self, answer: Answer) -> Record:
        """The one record of a call, and the client's id is its own."""
        wanted = answer.headers["x-request-id"].removeprefix("req_")

        def find() -> list[Record]:
            return [r for r in self.gateway.recorded() if r.request_id.hex == wanted]

        (found,) = await until(find, f"the record of {wanted}")
        assert found.charge_nano_usd <= max(found.hold_nano_usd, 0) or found.flags, found
        return found

    async def fails(
        self, names: list[str], *statuses: int, stream: bool = False, **knobs: Any
    ) -> list[Answer]:
        """It is an error in OpenAI's shape, and free."""
        answers = []
        for name in names:
            answer, record = await self.call(name, stream=stream, **knobs)
            assert answer.status in statuses, (name, knobs, answer)
            assert error_of(answer)["message"]
            assert (record.outcome, record.charge_nano_usd) == ("upstream_error", 0), name
            answers.append(answer)
        return answers

    async def charges_the_same(self, names: list[str], **knobs: Any) -> None:
        """Streams whose events come oddly are charged like others, and stay readable."""
        for name in names:
            _, usual = await self.call(name, stream=True)
            answer, record = await self.call(name, stream=True, **knobs)
            assert (answer.status, answer.is_whole) == (200, True), (name, knobs)
            answer.body.decode()
            assert b"\r" not in answer.body, (name, knobs)
            assert "error" not in last_event(answer), (name, knobs, answer.body[-300:])
            assert record.charge_nano_usd == usual.charge_nano_usd > 0, (name, knobs)
            assert (record.outcome, record.usage_source) == ("completed", "upstream"), name


def last_event(answer: Answer) -> dict[str, Any]:
    events = [one for one in answer.body.split(b"\n\n") if b"data:" in one]
    data = [one.partition(b"data:")[2].strip() for one in events]
    last = next(one for one in reversed(data) if one != b"[DONE]")
    document = json.loads(last.replace(b"\ndata:", b""))
    assert isinstance(document, dict)
    return document


def has_failed(answer: Answer) -> bool:
    """Whether the client of a stream is told that it broke."""
    event = last_event(answer)
    return bool(event.get("error") or event.get("type") in ("error", "response.failed"))


@pytest.fixture
async def faulty(shop: Gateway) -> Faulty:
    return Faulty(shop, await shop.customer(1_000 * USD), shop.workers[0])


@pytest.fixture
async def hasty(faulty: Faulty) -> Faulty:
    """At a worker that waits for next to nothing."""
    deadlines = replace(runtime_settings().deadlines, first_byte_seconds=0.3, idle_seconds=0.3)
    worker = await faulty.gateway.worker(deadlines=deadlines)
    return Faulty(faulty.gateway, faulty.customer, worker)


async def test_f16_where_nobody_listens_nothing_is_charged(faulty: Faulty) -> None:
    def nowhere() -> None:
        Channel.objects.update(base_url="http://127.0.0.1:9/v1")

    await faulty.gateway.change(nowhere)
    for name in CALLED:
        answer, record = await faulty.call(name, reached=0)
        assert (answer.status, error_of(answer)["code"]) == (503, "server_is_overloaded")
        assert (record.outcome, record.charge_nano_usd) == ("upstream_error", 0)


async def test_f17_an_upstream_that_never_answers_is_asked_once(hasty: Faulty) -> None:
    for answer in await hasty.fails(CALLED, 504, fault="hang"):
        assert answer.headers["x-should-retry"] == "false"


async def test_f18_a_stream_that_falls_silent_ends_with_an_error(hasty: Faulty) -> None:
    for name in STREAMED:
        answer, record = await hasty.call(name, stream=True, fault="silent_stream", after_chunks=1)
        assert has_failed(answer), (name, answer)
        assert record.outcome in ("interrupted", "upstream_error"), name
        assert (record.outcome == "interrupted") == (record.charge_nano_usd > 0), name


async def test_f19_half_an_answer_is_none(faulty: Faulty) -> None:
    for fault in ("cut", "bad_content_length"):
        await faulty.fails(WHOLE, 502, fault=fault)
    for fault in ("cut", "truncated"):
        for name in STREAMED:
            answer, record = await faulty.call(name, stream=True, fault=fault, after_chunks=1)
            assert has_failed(answer), (name, answer)
            assert (record.outcome == "interrupted") == (record.charge_nano_usd > 0), name


@pytest.mark.parametrize("fault", ["f20", "f21", "f22"])
async def test_f20_to_f22_an_error_of_upstreams_is_ours_and_free(
    faulty: Faulty, fault: str
) -> None:
    match fault:
        case "f20":
            await faulty.fails(CALLED, 502, status=500)
            await faulty.fails(CALLED, 502, status=502, fault="html")
            await faulty.fails(CALLED, 503, status=503, fault="empty_body")
        case "f21":
            for answer in await faulty.fails(CALLED, 503, status=429, retry_after=7):
                assert answer.headers["retry-after"] == "7"
        case _:
            # Never 401: the client's own key is good.
            for answer in await faulty.fails(CALLED, 503, status=403):
                assert error_of(answer)["code"] == "upstream_refused"
            await faulty.fails(CALLED[-1:], 503, status=401)


async def test_f20_a_page_or_nothing_instead_of_an_answer_is_free(faulty: Faulty) -> None:
    for fault in ("html", "empty_body"):
        await faulty.fails(WHOLE, 502, fault=fault)


async def test_f23_an_error_that_calls_itself_a_success_is_one(faulty: Faulty) -> None:
    await faulty.fails(CALLED, 500, 502, fault="json_error_200")
    await faulty.fails(STREAMED, 500, 502, stream=True, fault="json_error_200")


async def test_f24_an_error_event_ends_a_stream(faulty: Faulty) -> None:
    for name in STREAMED:
        first, free = await faulty.call(name, stream=True, fault="error_event_first")
        assert has_failed(first), (name, first)
        assert (free.outcome, free.charge_nano_usd) == ("upstream_error", 0), name
        later, paid = await faulty.call(
            name, stream=True, fault="error_event_after", after_chunks=2
        )
        assert has_failed(later), (name, later)
        assert (paid.outcome == "interrupted") == (paid.charge_nano_usd > 0), name


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("no_done", id="f25"),
        pytest.param("usage_twice", id="f27-usage"),
        pytest.param("data_after_done", id="f27-data"),
        pytest.param("invalid_utf8", id="f30"),
        *(
            pytest.param(fault, id=f"f31-{fault}")
            for fault in ("crlf", "cr", "bom", "comments", "multi_line", "split_bytes", "big_line")
        ),
    ],
)
async def test_f25_f27_f30_f31_a_stream_that_comes_oddly_costs_the_same(
    faulty: Faulty, fault: str
) -> None:
    # Elsewhere a stream is over with the first of two ends.
    names = TO_DONE if fault == "usage_twice" else STREAMED
    await faulty.charges_the_same(names, fault=fault)


async def test_f27_what_ends_with_its_usage_ends_once(faulty: Faulty) -> None:
    """What the client was told is what it pays."""
    for name in STREAMED:
        if name in TO_DONE:
            continue
        first, usual = await faulty.call(name, stream=True)
        answer, record = await faulty.call(name, stream=True, fault="usage_twice")
        assert usage_told(answer) == 2 * usage_told(first) > 0, name
        assert record.charge_nano_usd == 2 * usual.charge_nano_usd, name


def usage_told(answer: Answer) -> int:
    event = last_event(answer)
    usage = event.get("response", event)["usage"]
    return int(usage["input_tokens"]) + int(usage["output_tokens"])


async def test_f26_a_stream_without_an_end_or_usage_is_estimated(faulty: Faulty) -> None:
    for name in STREAMED:
        answer, record = await faulty.call(name, stream=True, fault="truncated", after_chunks=2)
        assert has_failed(answer), (name, answer)
        if record.outcome == "interrupted":
            assert record.usage_source == "estimated", name


async def test_f28_absurd_usage_is_neither_believed_nor_free(faulty: Faulty) -> None:
    for name in CALLED:
        for stream in (False, True) if name in STREAMED else (False,):
            for knobs in ABSURD:
                answer, record = await faulty.call(name, stream=stream, **knobs)
                assert (answer.status, answer.is_whole) == (200, True), (name, knobs)
                assert record.outcome == "completed"
                assert (record.charge_nano_usd > 0) == (name in BILLED), (name, stream, knobs)
                assert record.prompt_tokens >= 0 <= record.completion_tokens


# Their example is a model that is sold by the piece, or a sound that says nothing.
WITHOUT_TOKENS = {"POST images/variations", "POST audio/translations"}
WITHOUT_USAGE = {("POST audio/speech", False)}


async def test_f29_what_is_new_in_usage_is_kept_and_seen(faulty: Faulty) -> None:
    unknown = {"video_tokens": 3}
    for name in (name for name in BILLED if name not in WITHOUT_TOKENS):
        for stream in (False, True) if name in STREAMED else (False,):
            if (name, stream) in WITHOUT_USAGE:
                continue
            answer, record = await faulty.call(name, stream=stream, usage_more=unknown)
            assert stream or b"video_tokens" in answer.body, name
            assert record.units["unknown/video_tokens"] == 3, (name, stream)
            assert record.flags, (name, stream)
            assert record.charge_nano_usd > 0


async def test_f32_nobody_is_followed_elsewhere(faulty: Faulty) -> None:
    await faulty.fails(CALLED, 502, fault="redirect")
    await faulty.fails(STREAMED, 502, stream=True, fault="redirect")


async def test_f33_what_comes_packed_is_not_unpacked(faulty: Faulty) -> None:
    await faulty.fails(WHOLE, 502, fault="gzip", bytes=2_000_000)


async def opened(
    faulty: Faulty, name: str, **simulate: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a streamed call was sent."""
    content, kind = EXAMPLES[name].body(**(EXAMPLES[name].streamed or {}), simulate=simulate)
    reader, writer = await asyncio.open_connection("127.0.0.1", faulty.worker.port)
    head = (
        f"POST /v1/{name.split()[1]} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind.decode()}\r\n"
        f"authorization: Bearer {faulty.customer.api_key}\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    return reader, writer


async def test_f34_who_leaves_a_stream_has_one_record_of_it(faulty: Faulty) -> None:
    for name in STREAMED:
        known = len(faulty.gateway.recorded())
        reader, writer = await opened(faulty, name, chunk_delay_ms=20)
        await reader.readuntil(b"data:")
        writer.transport.abort()
        *_, record = await faulty.gateway.records(known + 1)
        assert (record.outcome, record.usage_source) == ("client_left", "upstream"), name
        assert record.charge_nano_usd > 0, name


async def test_f36_who_closes_its_half_has_left_and_pays_exactly(faulty: Faulty) -> None:
    """That is how most clients leave, and nothing tells the others from them before it is late."""
    for name in STREAMED:
        _, usual = await faulty.call(name, stream=True, chunk_delay_ms=20)
        known = len(faulty.gateway.recorded())
        reader, writer = await opened(faulty, name, chunk_delay_ms=20)
        await reader.readuntil(b"data:")
        writer.write_eof()
        assert b"[DONE]" not in await reader.read()
        writer.close()
        *_, record = await faulty.gateway.records(known + 1)
        assert (record.outcome, record.usage_source) == ("client_left", "upstream"), name
        assert record.charge_nano_usd == usual.charge_nano_usd > 0, name


async def test_f37_three_sendings_are_three_calls(faulty: Faulty) -> None:
    body = EXAMPLES["POST responses"].body()
    for retry in ("0", "1", "2"):
        await send(
            faulty.worker,
            faulty.customer,
            "POST responses",
            body,
            x_stainless_retry_count=retry,
        )
    records = await faulty.gateway.records(3)
    assert [record.retry_count for record in records] == [0, 1, 2]
    assert len({record.charge_nano_usd for record in records}) == 1
