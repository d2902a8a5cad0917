"""What scripted upstreams say: streams of chat chunks, event by event."""

import json
from typing import Any

from tests.adversary.gateway import USD, Gateway
from tests.faults.http_client import Answer
from tests.relay.upstream.support import Peer

# Without a length or chunks: the body ends with the connection.
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def event(data: Any) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def chunk(delta: dict[str, Any], *, finish: str | None = None, **members: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({"id": "chatcmpl-1", "model": "scripted-model", "choices": [choice], **members})


def said(text: str) -> bytes:
    return chunk({"content": text})


FINISH = chunk({}, finish="stop")


def usage_of(prompt_tokens: int, completion_tokens: int, **members: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        **members,
    }


def usage_chunk(prompt_tokens: int, completion_tokens: int, **members: Any) -> bytes:
    usage = usage_of(prompt_tokens, completion_tokens, **members)
    return event({"id": "chatcmpl-1", "model": "scripted-model", "choices": [], "usage": usage})


def answer(message: dict[str, Any], **members: Any) -> bytes:
    """A whole answer that is not a stream."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    document = {"id": "chatcmpl-1", "model": "scripted-model", "choices": [choice], **members}
    return json_response(200, document)


def json_response(status: int, document: Any) -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def end(peer: Peer) -> None:
    """Close the connection in order, after everything has gone out."""
    peer.writer.close()
    await peer.writer.wait_closed()


async def play(gateway: Gateway, body: bytes, *writes: bytes) -> Answer:
    """The answer to one call, whose upstream says exactly this."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*writes)
        await end(peer)

    await gateway.scripted(script)
    return await gateway.call(await gateway.customer(USD), body)


def events_of(answer: Answer) -> list[Any]:
    """What the client of a stream was told, parsed; the end comes last, and once."""
    *events, last, rest = answer.body.split(b"\n\n")
    assert (last, rest) == (b"data: [DONE]", b"")
    return [json.loads(one.removeprefix(b"data: ")) for one in events]
