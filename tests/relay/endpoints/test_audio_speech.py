"""POST /audio/speech: voices by the character, by tokens, and by their length."""

import asyncio
import base64
import json
from typing import Any

import pytest

from relay.simulator.sounds import silence_make
from tests.adversary.gateway import MODEL, USD, Gateway, until
from tests.adversary.upstream import STREAM_HEAD
from tests.relay.endpoints.media import (
    CHARACTER_NANO_USD,
    SAID_SECOND_NANO_USD,
    SCRIPTED_VOICE,
    TTS,
    VOICE,
    event,
    media_says,
    scripted,
    sell_media,
    token_charge,
    tokens,
)
from tests.relay.endpoints.support import ask, told
from tests.relay.upstream.support import Peer

PATH = "audio/speech"


@pytest.fixture(autouse=True)
async def priced(gateway: Gateway) -> None:
    await sell_media(gateway)


def speech(text: str = "Hello", *, model: str = SCRIPTED_VOICE, **asked: Any) -> dict[str, Any]:
    return {"model": model, "input": text, "voice": "alloy", **asked}


def sound(body: bytes, *, kind: str = "audio/mpeg", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return (
        f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n\r\n".encode() + body
    )


@pytest.mark.parametrize("text", ["Hello", "Ünïcödé", "日本語", "👩‍👩‍👧", "x" * 4_096])
async def test_characters_are_counted_not_bytes(gateway: Gateway, text: str) -> None:
    exactly = len(text) * CHARACTER_NANO_USD
    customer = await gateway.customer(exactly, strict=True)
    answer = await ask(gateway, customer, PATH, speech(text, model=TTS))
    assert answer.status == 200
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.body == silence_make(len(text) / 100, form="mp3")
    record = await gateway.record()
    assert record.units == {"characters": len(text)}
    assert (record.charge_nano_usd, record.usage_source) == (exactly, "upstream")
    assert gateway.balance(customer) == 0


@pytest.mark.parametrize("form", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
async def test_a_voice_without_usage_is_charged_by_its_length(gateway: Gateway, form: str) -> None:
    body = speech("x" * 400, model=VOICE, response_format=form)
    answer = await ask(gateway, await gateway.customer(USD, strict=True), PATH, body)
    assert answer.body == silence_make(4, form=form)
    record = await gateway.record()
    assert record.usage_source == "estimated"
    # Frames are not of any length.
    assert 4_000 <= record.units["output_audio_milliseconds"] <= 4_060
    assert record.charge_nano_usd >= 4 * SAID_SECOND_NANO_USD
    assert record.charge_nano_usd <= record.hold_nano_usd


async def test_events_are_charged_by_their_usage(gateway: Gateway) -> None:
    body = speech(model=VOICE, stream_format="sse", instructions="Cheerfully")
    answer = await ask(gateway, await gateway.customer(USD, strict=True), PATH, body)
    *_, last, rest = answer.body.split(b"\n\n")
    assert rest == b""
    usage = json.loads(last.removeprefix(b"data: "))["usage"]
    record = await gateway.record()
    assert (record.usage_source, record.outcome, record.stream) == ("upstream", "completed", True)
    assert record.charge_nano_usd == token_charge(usage["input_tokens"], usage["output_tokens"])
    assert record.units.keys() == {"input_tokens", "output_audio_tokens"}


async def test_the_last_byte_comes_after_the_record(gateway: Gateway) -> None:
    """Upstream has said everything but its end: the client has all but one byte."""
    audio = silence_make(1, form="mp3")
    may_end = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sound(audio, length=len(audio) + 1))
        await may_end.wait()
        await peer.send(b"\0")

    await scripted(gateway, script)
    body = json.dumps(speech()).encode()
    async with gateway.visit(await gateway.customer(USD), body, path=f"/v1/{PATH}") as visitor:
        await visitor.see(audio[-100:-1])
        assert gateway.recorded() == []
        may_end.set()
        await visitor.see(audio[-1:] + b"\r\n1\r\n\0\r\n0\r\n\r\n")
    assert (await gateway.record()).outcome == "completed"


async def test_a_sound_that_is_cut_breaks_the_connection_and_costs_what_came(
    gateway: Gateway,
) -> None:
    audio = silence_make(2, form="wav")
    await media_says(gateway, sound(audio, kind="audio/wav", length=len(audio) + 10))
    answer = await ask(gateway, await gateway.customer(USD), PATH, speech())
    assert not answer.is_whole
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("interrupted", "estimated")
    assert record.charge_nano_usd == 2 * SAID_SECOND_NANO_USD


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        (speech(model=MODEL), 404, "model_not_found"),
        (speech(""), 400, "missing_required_parameter"),
        (speech(voice={"id": "voice_1"}), 404, "not_found"),
        (speech(voice="voice_1"), 404, "not_found"),
        (speech(api_base="https://example.com"), 400, "unknown_parameter"),
        (b'{"model":"m","input":"a","input":"b"}', 400, "duplicate_parameter"),
        (b'{"model":"m","input":"a","response_format":"a","response_format":"b"}', 400, "dup"),
    ],
)
async def test_what_is_refused(
    gateway: Gateway, fields: dict[str, Any] | bytes, status: int, code: str
) -> None:
    answer = await ask(gateway, await gateway.customer(USD), PATH, fields)
    assert answer.status == status
    assert str(told(answer)["code"]).startswith(code)
    assert gateway.arrived() == 0


@pytest.mark.parametrize(
    "reply",
    [
        sound(b"<html></html>", kind="text/html"),
        sound(b'{"error":{"message":"No."}}', kind="application/json"),
        sound(b"{}", kind="application/json"),
        sound(b"", kind="application/json"),
        sound(b"zip", kind="audio/mpeg").replace(
            b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"
        ),
        STREAM_HEAD + b"data: {\n\n",
        STREAM_HEAD + b"data: []\n\n",
        STREAM_HEAD + event("error", error={"message": "No."}),
        STREAM_HEAD,
    ],
)
async def test_what_is_no_voice_costs_nothing(gateway: Gateway, reply: bytes) -> None:
    await media_says(gateway, reply)
    answer = await ask(gateway, await gateway.customer(USD), PATH, speech(stream_format="sse"))
    if answer.status == 200:
        assert answer.body.startswith(b'data: {"error":')
        assert answer.body.endswith(b"data: [DONE]\n\n")
    else:
        assert answer.status in (500, 502)
        assert told(answer)["type"] == "server_error"
    record = await gateway.record()
    assert (record.charge_nano_usd, record.outcome) == (0, "upstream_error")


@pytest.mark.parametrize("usage", [None, tokens(-1, 5), "many", tokens(1, 2, total_tokens=9)])
async def test_events_without_a_usage_are_charged_by_the_length(
    gateway: Gateway, usage: Any
) -> None:
    audio = base64.b64encode(silence_make(3, form="wav")).decode()
    await media_says(
        gateway,
        STREAM_HEAD,
        event("speech.audio.delta", audio=audio),
        event("speech.audio.done", usage=usage),
    )
    answer = await ask(gateway, await gateway.customer(USD), PATH, speech(stream_format="sse"))
    assert answer.body.count(b"event: ") == 2
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("completed", "estimated")
    assert record.charge_nano_usd == 3 * SAID_SECOND_NANO_USD


async def test_who_leaves_a_voice_pays_for_all_that_was_said(gateway: Gateway) -> None:
    """Upstream is read to its end all the same: that is what it costs."""
    audio = silence_make(4, form="wav")
    half = len(audio) // 2
    has_left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sound(audio[:half], kind="audio/wav", length=len(audio)))
        await has_left.wait()
        await peer.send(audio[half:])

    await scripted(gateway, script)
    body = json.dumps(speech()).encode()
    async with gateway.visit(await gateway.customer(USD), body, path=f"/v1/{PATH}") as visitor:
        await visitor.see(b"RIFF")
        visitor.leave()
        await until(lambda: gateway.workers[0].departures, "the departure")
        has_left.set()
    record = await gateway.record()
    assert (record.outcome, record.charge_nano_usd) == ("client_left", 4 * SAID_SECOND_NANO_USD)
