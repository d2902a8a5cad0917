"""Models for pictures, voices and transcripts, and upstreams that make them."""

import json
from typing import Any

from relay.channels.services import NewChannel, channel_add
from tests.adversary.gateway import Customer, Gateway
from tests.adversary.upstream import end
from tests.factories import ACTOR
from tests.faults.http_client import Answer, Connection
from tests.relay.endpoints.support import price
from tests.relay.upstream.support import Peer, Script, Upstream

# The simulator knows by its name what a model is for; those of `scripted` do what a test says.
BY_IMAGE, BOTH_WAYS, SCRIPTED_IMAGE = "dall-e-test", "gpt-image-test", "scripted-image"
TTS, VOICE, SCRIPTED_VOICE = "tts-1-test", "gpt-tts-test", "scripted-voice"
WHISPER, TRANSCRIBER, SCRIPTED_EAR = "whisper-test", "gpt-transcribe-test", "scripted-ear"

# In USD; half of it is charged.
IMAGE_USD = {
    "image/standard/1024x1024": "0.04",
    "image/standard/1792x1024": "0.08",
    "image/hd/1024x1024": "0.08",
}
STANDARD_NANO_USD, WIDE_NANO_USD, HD_NANO_USD = 20_000_000, 40_000_000, 40_000_000
LOW_NANO_USD, HIGH_NANO_USD = 5_000_000, 80_000_000
TOKENS_USD = {"input_usd": "5", "output_usd": "40"}
INPUT_NANO_USD, OUTPUT_NANO_USD = 2_500, 20_000  # A token.
CHARACTER_NANO_USD = 7_500
SAID_SECOND_NANO_USD, HEARD_SECOND_NANO_USD = 125_000, 50_000
_GPT_IMAGE_USD = {"image/low/1024x1024": "0.01", "image/high/1024x1024": "0.16"}
_SAID_USD = {"output_audio_milliseconds": "0.015"}
_HEARD_USD = {"input_audio_milliseconds": "0.006"}


async def sell_media(gateway: Gateway) -> None:
    await price(gateway, BY_IMAGE, unit_usd=IMAGE_USD)
    for model in (BOTH_WAYS, SCRIPTED_IMAGE):
        await price(gateway, model, unit_usd=_GPT_IMAGE_USD, **TOKENS_USD)
    await price(gateway, TTS, unit_usd={"characters": "15"})
    for model in (VOICE, SCRIPTED_VOICE):
        await price(gateway, model, unit_usd=_SAID_USD, **TOKENS_USD)
    await price(gateway, WHISPER, unit_usd=_HEARD_USD)
    for model in (TRANSCRIBER, SCRIPTED_EAR):
        await price(gateway, model, unit_usd=_HEARD_USD, **TOKENS_USD)


async def scripted(gateway: Gateway, script: Script) -> None:
    """A channel for the scripted models that plays the script on every connection."""
    upstream = Upstream(script)
    await upstream.start()
    gateway._scripted.append(upstream)
    new = NewChannel(
        name="media",
        base_url=f"http://127.0.0.1:{upstream.port}/v1",
        credential="any",
        models=[SCRIPTED_IMAGE, SCRIPTED_VOICE, SCRIPTED_EAR],
    )
    await gateway.change(lambda: channel_add(new=new, actor=ACTOR))


async def media_says(gateway: Gateway, *writes: bytes) -> None:
    """Let the scripted models answer every call with exactly this."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*writes)
        await end(peer)

    await scripted(gateway, script)


def tokens(given: int, made: int, **more: Any) -> dict[str, Any]:
    return {"input_tokens": given, "output_tokens": made, "total_tokens": given + made, **more}


def token_charge(given: int, made: int) -> int:
    return given * INPUT_NANO_USD + made * OUTPUT_NANO_USD


def event(kind: str, **members: Any) -> bytes:
    data = json.dumps({"type": kind, **members})
    return f"event: {kind}\ndata: {data}\n\n".encode()


BOUNDARY = "----boundary"


def form(*parts: tuple[str, Any] | tuple[str, str, bytes]) -> bytes:
    """A form of fields (name, value) and files (name, filename, data)."""
    lines = []
    for name, *rest in parts:
        head = f'content-disposition: form-data; name="{name}"'
        if len(rest) == 2:
            head += f'; filename="{rest[0]}"\r\ncontent-type: application/octet-stream'
        data = rest[-1] if isinstance(rest[-1], bytes) else str(rest[-1]).encode()
        lines.append(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + b"\r\n")
    return b"".join(lines) + f"--{BOUNDARY}--\r\n".encode()


async def send_form(gateway: Gateway, customer: Customer, path: str, body: bytes) -> Answer:
    """The answer to a form, sent to the first worker."""
    head = f"content-type: multipart/form-data; boundary={BOUNDARY}"
    async with Connection(gateway.workers[0].port) as link:
        return await link.post(f"/v1/{path}", customer.api_key, body, head=head)
