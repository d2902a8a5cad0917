"""POST /audio/transcriptions and /audio/translations: forms that pass through, and their price."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from billing.pricing import audio_bound_milliseconds
from relay.bodies.uploads import READ_AHEAD_BYTES
from relay.endpoints.transcripts import MADE_UP_CHARACTERS
from relay.simulator.sounds import silence_make
from tests.adversary.gateway import MODEL, USD, Gateway, until
from tests.adversary.upstream import STREAM_HEAD, end, json_response
from tests.relay.endpoints.media import (
    BOUNDARY,
    HEARD_SECOND_NANO_USD,
    SCRIPTED_EAR,
    TRANSCRIBER,
    WHISPER,
    event,
    form,
    media_says,
    scripted,
    sell_media,
    send_form,
    token_charge,
    tokens,
)
from tests.relay.endpoints.support import ask, told
from tests.relay.upstream.support import Peer

PATH = "audio/transcriptions"
SECONDS = 3
SOUND = silence_make(SECONDS, form="wav")
FILE = ("file", "a.wav", SOUND)
MODEL_FIELD = ("model", SCRIPTED_EAR)


@pytest.fixture(autouse=True)
async def priced(gateway: Gateway) -> None:
    await sell_media(gateway)


@pytest.mark.parametrize(
    ("reply", "charge", "source", "flags"),
    [
        (
            {"text": "Hi", "usage": {"type": "tokens", **tokens(30, 5)}},
            token_charge(30, 5),
            "upstream",
            [],
        ),
        (
            {"text": "Hi", "usage": {"type": "duration", "seconds": 4}},
            4 * HEARD_SECOND_NANO_USD,
            "upstream",
            [],
        ),
        (
            {"text": "Hi", "usage": {"type": "duration", "seconds": 4.5}},
            9 * HEARD_SECOND_NANO_USD // 2,
            "upstream",
            [],
        ),
        ({"text": "Hi", "duration": 2.5}, 5 * HEARD_SECOND_NANO_USD // 2, "upstream", []),
        ({"text": "Hi", "duration": "2.5"}, 5 * HEARD_SECOND_NANO_USD // 2, "upstream", []),
        ({"text": "Hi"}, SECONDS * HEARD_SECOND_NANO_USD, "estimated", []),
        ({"text": "", "duration": -1}, SECONDS * HEARD_SECOND_NANO_USD, "estimated", []),
        (
            {"text": "Hi", "usage": {"type": "tokens", **tokens(-1, 5)}},
            SECONDS * HEARD_SECOND_NANO_USD,
            "estimated",
            ["absurd_usage"],
        ),
    ],
)
async def test_what_a_transcript_costs(
    gateway: Gateway, reply: dict[str, Any], charge: int, source: str, flags: list[str]
) -> None:
    await media_says(gateway, json_response(200, reply))
    customer = await gateway.customer(USD, strict=True)
    answer = await send_form(gateway, customer, PATH, form(MODEL_FIELD, FILE))
    assert json.loads(answer.body) == reply
    record = await gateway.record()
    assert (record.charge_nano_usd, record.usage_source, record.flags) == (charge, source, flags)
    assert record.charge_nano_usd <= record.hold_nano_usd


@pytest.mark.parametrize("kind", ["text", "srt", "vtt", "verbose_json", "json"])
@pytest.mark.parametrize("path", [PATH, "audio/translations"])
async def test_every_format_of_the_real_thing(gateway: Gateway, path: str, kind: str) -> None:
    customer = await gateway.customer(USD, strict=True)
    body = form(FILE, ("response_format", kind), ("model", WHISPER))
    answer = await send_form(gateway, customer, path, body)
    assert answer.status == 200
    assert b"silence" in answer.body
    record = await gateway.record()
    assert record.flags == []
    assert record.units == {"input_audio_milliseconds": SECONDS * 1_000}
    assert record.charge_nano_usd == SECONDS * HEARD_SECOND_NANO_USD


async def test_a_stream(gateway: Gateway) -> None:
    body = form(("model", TRANSCRIBER), FILE, ("stream", "true"))
    answer = await send_form(gateway, await gateway.customer(USD, strict=True), PATH, body)
    last = json.loads(answer.body.split(b"\n\n")[-2].removeprefix(b"data: "))
    assert last["type"] == "transcript.text.done"
    record = await gateway.record()
    assert (record.usage_source, record.stream) == ("upstream", True)
    assert record.charge_nano_usd == token_charge(
        last["usage"]["input_tokens"], last["usage"]["output_tokens"]
    )


@pytest.mark.parametrize(
    ("writes", "outcome"),
    [
        ([event("transcript.text.delta", delta="Hi")], "interrupted"),
        (
            [event("transcript.text.delta", delta="Hi"), event("transcript.text.done", text="Hi")],
            "completed",
        ),
        ([event("transcript.text.delta", delta="Hi"), b"data: {\n\n"], "interrupted"),
    ],
)
async def test_a_stream_without_usage_costs_what_was_heard(
    gateway: Gateway, writes: list[bytes], outcome: str
) -> None:
    await media_says(gateway, STREAM_HEAD, *writes)
    body = form(MODEL_FIELD, FILE, ("stream", "true"))
    answer = await send_form(gateway, await gateway.customer(USD), PATH, body)
    assert answer.body.startswith(writes[0])
    assert answer.body.endswith(b"data: [DONE]\n\n") is (outcome == "interrupted")
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == (outcome, "estimated")
    assert record.charge_nano_usd == SECONDS * HEARD_SECOND_NANO_USD


@pytest.mark.parametrize(
    "reply",
    [
        json_response(200, {"error": {"message": "No."}}),
        json_response(200, {}),
        json_response(200, []),
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n <!DOCTYPE html><html></html>",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n\xff\xfe",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\ncut",
        json_response(500, {"error": {"message": "No."}}),
    ],
)
async def test_what_is_no_transcript_costs_nothing(gateway: Gateway, reply: bytes) -> None:
    await media_says(gateway, reply)
    kind = "text" if b"text/" in reply else "json"
    body = form(MODEL_FIELD, FILE, ("response_format", kind))
    answer = await send_form(gateway, await gateway.customer(USD), PATH, body)
    assert answer.status in (500, 502)
    assert told(answer)["type"] == "server_error"
    record = await gateway.record()
    assert (record.charge_nano_usd, record.outcome) == (0, "upstream_error")


async def test_what_is_refused(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    for body, status, code in [
        (form(FILE), 400, "missing_required_parameter"),
        (form(("model", MODEL), FILE), 404, "model_not_found"),
        (form(("model", WHISPER), ("model", SCRIPTED_EAR), FILE), 400, "duplicate_parameter"),
        (form(("model", WHISPER), FILE)[:-10], 400, "invalid_form"),
        (form(("model", WHISPER), ("file", "a", bytes(25 * 2**20 + 1))), 413, "request_too_large"),
        (bytes(26 * 2**20 + 1), 413, "request_too_large"),
    ]:
        answer = await send_form(gateway, customer, PATH, body)
        assert (answer.status, told(answer)["code"]) == (status, code)
    answer = await ask(gateway, customer, PATH, {"model": WHISPER})
    assert (answer.status, told(answer)["code"]) == (400, "invalid_form")
    assert gateway.arrived() == 0
    # One of them was on its way when its file turned out too large.
    record = await gateway.record()
    assert (record.status, record.charge_nano_usd) == (413, 0)


async def test_who_is_poor_is_asked_for_what_the_sound_costs(gateway: Gateway) -> None:
    """By its size it could last twice as long as there is money for; then it is looked at."""
    sound = silence_make(60, form="wav")
    enough = 61 * HEARD_SECOND_NANO_USD
    customer = await gateway.customer(enough, strict=True)
    body = form(("model", WHISPER), ("file", "a.wav", sound))
    answer = await send_form(gateway, customer, PATH, body)
    assert answer.status == 200
    (record,) = await gateway.records(1)
    assert (record.hold_nano_usd, record.charge_nano_usd) == (enough, 60 * HEARD_SECOND_NANO_USD)
    answer = await send_form(gateway, customer, PATH, body)
    assert (answer.status, told(answer)["code"]) == (429, "insufficient_quota")


SAMPLES = Path(__file__).parents[1] / "samples"
LYING = ["moov_first.m4a", "recorded.webm", "vorbis.ogg", "plain.flac", "adpcm.wav"]


@pytest.mark.parametrize("name", LYING)
async def test_no_header_makes_a_strict_hold_too_small(gateway: Gateway, name: str) -> None:
    """The file says that it lasts a second or two; upstream finds as much as fits into it."""
    sound = (SAMPLES / name).read_bytes() + bytes(100_000)
    milliseconds = audio_bound_milliseconds(len(sound))
    reply = {"text": "Hi", "usage": {"type": "duration", "seconds": milliseconds // 1_000}}
    await media_says(gateway, json_response(200, reply))
    body = form(MODEL_FIELD, ("file", name, sound))
    customer = await gateway.customer(10 * USD, strict=True)
    assert (await send_form(gateway, customer, PATH, body)).status == 200
    (record,) = await gateway.records(1)
    assert record.charge_nano_usd == milliseconds // 1_000 * HEARD_SECOND_NANO_USD
    assert record.charge_nano_usd <= record.hold_nano_usd
    assert record.flags == []
    poor = await gateway.customer(10 * HEARD_SECOND_NANO_USD, strict=True)
    answer = await send_form(gateway, poor, PATH, body)
    assert (answer.status, told(answer)["code"]) == (429, "insufficient_quota")


def silent_flac(hours: int, *, size: int) -> bytes:
    """Silence packs so well that a small file of it can last for days."""
    samples = hours * 3_600 * 8_000
    packed = (8_000 << 44 | samples).to_bytes(8)
    return b"fLaC\x80\0\0\x22" + bytes(10) + packed + bytes(16) + bytes(size)


async def test_a_sound_beyond_all_expectation_is_held_for_or_never_complete(
    gateway: Gateway,
) -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        got.append(await peer.left())

    await scripted(gateway, script)
    small = form(MODEL_FIELD, ("file", "a.flac", silent_flac(10, size=1_000)))
    large = form(MODEL_FIELD, ("file", "a.flac", silent_flac(1_000, size=1_000_000)))
    customer = await gateway.customer(USD, strict=True)
    # What is here before it is sent says how much has to be held.
    answer = await send_form(gateway, customer, PATH, small)
    assert (answer.status, told(answer)["code"]) == (429, "insufficient_quota")
    # What passes through is seen when it has passed.
    answer = await send_form(gateway, customer, PATH, large)
    assert (answer.status, told(answer)["code"]) == (400, "audio_too_long")
    await until(lambda: bool(got), "the end of the upload")
    assert len(got[0]) < len(large)
    record = await gateway.record()
    assert (record.charge_nano_usd, record.status) == (0, 400)


async def test_on_standard_holds_it_is_charged_as_upstream_says(gateway: Gateway) -> None:
    seconds = 100 * 3_600
    reply = {"text": "", "usage": {"type": "duration", "seconds": seconds}}
    await media_says(gateway, json_response(200, reply))
    large = form(MODEL_FIELD, ("file", "a.flac", silent_flac(100, size=1_000_000)))
    answer = await send_form(gateway, await gateway.customer(1_000 * USD), PATH, large)
    assert answer.status == 200
    assert (await gateway.record()).charge_nano_usd == seconds * HEARD_SECOND_NANO_USD


SUBTITLES = "1\n00:00:00,000 --> 00:00:04,500\nHi\n\n2\n00:00:05,000 --> 01:00:00,250\nHo\n"


TRANSCRIPTS = {
    "x" * (2_500 + MADE_UP_CHARACTERS): 100_000,
    SUBTITLES: 3_600_250,
    "WEBVTT\n\n00:00.000 --> 00:59.000\nHi\n": 59_000,
}


async def test_a_transcript_is_believed_before_a_header(gateway: Gateway) -> None:
    replies = [
        f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {len(text)}\r\n\r\n{text}"
        for text in TRANSCRIPTS
    ]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(replies.pop(0).encode())
        await end(peer)

    await scripted(gateway, script)
    customer = await gateway.customer(USD)
    sound = ("file", "a.m4a", (SAMPLES / "moov_first.m4a").read_bytes())
    body = form(MODEL_FIELD, ("response_format", "text"), sound)
    for _ in TRANSCRIPTS:
        assert (await send_form(gateway, customer, PATH, body)).status == 200
    records = await gateway.records(len(TRANSCRIPTS))
    for record, milliseconds in zip(records, TRANSCRIPTS.values(), strict=True):
        assert record.charge_nano_usd == -(-milliseconds * HEARD_SECOND_NANO_USD // 1_000)
        assert (record.usage_source, record.flags[0]) == ("estimated", "doubted_duration")


async def test_a_short_sound_with_made_up_words_costs_what_it_lasts(gateway: Gateway) -> None:
    text = b"Thank you for watching, and do not forget to subscribe to our channel!"
    reply = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
    await media_says(gateway, reply % len(text) + text)
    sound = ("file", "a.m4a", (SAMPLES / "moov_first.m4a").read_bytes())
    body = form(MODEL_FIELD, ("response_format", "text"), sound)
    assert (await send_form(gateway, await gateway.customer(USD), PATH, body)).status == 200
    record = await gateway.record()
    assert record.units == {"input_audio_milliseconds": 1_564}
    assert record.flags == []


LARGE = form(("model", SCRIPTED_EAR), ("file", "a.mp3", bytes(24 * 2**20)), ("language", "en"))


async def test_a_large_form_waits_for_its_upstream(gateway: Gateway) -> None:
    """While upstream does not read, the client cannot send: nothing is gathered in between."""
    got: list[bytes] = []
    may_read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await may_read.wait()
        _, body = await peer.request()
        got.append(body)
        await peer.send(json_response(200, {"text": "", "duration": 2}))

    await scripted(gateway, script)
    customer = await gateway.customer(10 * USD)
    port = gateway.workers[0].port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/{PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {customer.api_key}\r\n"
    head += f"content-type: multipart/form-data; boundary={BOUNDARY}\r\n"
    writer.write(f"{head}content-length: {len(LARGE)}\r\n\r\n".encode())
    sent = 0
    with contextlib.suppress(TimeoutError):
        for at in range(0, len(LARGE), 65_536):
            writer.write(LARGE[at : at + 65_536])
            async with asyncio.timeout(1):
                await writer.drain()
            sent = at
    # What the kernel and the buffers of both connections hold.
    assert sent < 16 * 2**20
    may_read.set()
    writer.write(LARGE[sent + 2 * 65_536 :])
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    assert got == [LARGE]
    record = await gateway.record()
    assert record.charge_nano_usd == 2 * HEARD_SECOND_NANO_USD


async def test_who_leaves_while_sending_pays_nothing(gateway: Gateway) -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        got.append(await peer.left())

    await scripted(gateway, script)
    customer = await gateway.customer(10 * USD)
    head = f"multipart/form-data; boundary={BOUNDARY}"
    async with gateway.visit(
        customer, LARGE[:1_000_000], path=f"/v1/{PATH}", kind=head, length=len(LARGE)
    ) as visitor:
        await until(lambda: gateway.workers[0].open_holds, "an upload that has begun")
        visitor.leave()
    record = await gateway.record()
    assert (record.outcome, record.charge_nano_usd, record.status) == ("client_left", 0, 499)
    await until(lambda: bool(got), "the end of the upload")
    assert len(got[0]) < 1_100_000


async def test_a_form_that_turns_out_bad_on_its_way_is_never_complete(gateway: Gateway) -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        got.append(await peer.left())

    await scripted(gateway, script)
    body = LARGE.replace(b'name="language"', b'name="model"')
    answer = await send_form(gateway, await gateway.customer(10 * USD), PATH, body)
    assert (answer.status, told(answer)["code"]) == (400, "duplicate_parameter")
    await until(lambda: bool(got), "the end of the upload")
    assert len(got[0]) < len(body)
    record = await gateway.record()
    assert (record.charge_nano_usd, record.status) == (0, 400)


@pytest.mark.parametrize("size", [1_000, 2_000_000])
async def test_what_a_channel_did_not_take_another_gets_if_it_is_still_here(
    gateway: Gateway, size: int
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(json_response(503, {"error": {"message": "Later."}}))

    await scripted(gateway, script)
    body = form(MODEL_FIELD, ("file", "a.mp3", bytes(size)))
    answer = await send_form(gateway, await gateway.customer(10 * USD), PATH, body)
    # The other one is the simulator, which knows no such model: it has got the call.
    assert gateway.arrived() == (size < READ_AHEAD_BYTES)
    assert answer.status == (404 if size < READ_AHEAD_BYTES else 503)
