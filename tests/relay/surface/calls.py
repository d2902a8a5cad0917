"""A good call of every endpoint, offered already or not, and a client for all of them."""

import json
from dataclasses import dataclass, replace
from typing import Any

from relay.endpoints.table import ENDPOINTS, ID, Endpoint
from relay.simulator.pictures import picture_bytes
from relay.simulator.sounds import silence_make
from tests.adversary.gateway import Customer, Gateway, Worker
from tests.adversary.process import WorkerProcess
from tests.faults.http_client import Answer, Connection
from tests.relay.simulator.support import BOUNDARY, Form

_WAV, _PNG = silence_make(0.5, form="wav"), picture_bytes(16, 16, "png")
_CREATED = {"model": "gpt-5-mini", "input": "Hello"}


@dataclass(frozen=True, kw_only=True)
class Example:
    """What is sent to one endpoint; `streamed` are the fields that make a stream of the answer."""

    fields: dict[str, Any] | Form | None = None
    streamed: dict[str, Any] | None = None

    def body(self, **more: Any) -> tuple[bytes, bytes]:
        """The body with further fields, and its content type."""
        if self.fields is None:
            return b"", b""
        if isinstance(self.fields, Form):
            texts = {
                name: value if isinstance(value, str | list) else json.dumps(value)
                for name, value in more.items()
            }
            form = replace(self.fields, fields=self.fields.fields | texts)
            return form.encoded(), f"multipart/form-data; boundary={BOUNDARY}".encode()
        return json.dumps(self.fields | more).encode(), b"application/json"


# By method and path, as in the official documentation.
EXAMPLES: dict[str, Example] = {
    "POST chat/completions": Example(
        fields={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]},
        streamed={"stream": True},
    ),
    "POST completions": Example(
        fields={"model": "gpt-3.5-turbo-instruct", "prompt": "Hello"}, streamed={"stream": True}
    ),
    "POST embeddings": Example(fields={"model": "text-embedding-3-small", "input": "Hello"}),
    "POST moderations": Example(fields={"input": "Hello"}),
    "POST responses": Example(fields=_CREATED, streamed={"stream": True}),
    "POST responses/compact": Example(fields=_CREATED),
    "POST responses/input_tokens": Example(fields=_CREATED),
    "GET responses/{id}": Example(),
    "DELETE responses/{id}": Example(),
    "POST responses/{id}/cancel": Example(),
    "GET responses/{id}/input_items": Example(),
    "POST images/generations": Example(
        fields={"model": "gpt-image-1", "prompt": "a cat", "quality": "low"},
        streamed={"stream": True, "partial_images": 1},
    ),
    "POST images/edits": Example(
        fields=Form(
            {"model": "gpt-image-1", "prompt": "a cat", "quality": "low"}, _PNG, file_field="image"
        ),
        streamed={"stream": "true", "partial_images": "1"},
    ),
    "POST images/variations": Example(
        fields=Form({"model": "dall-e-2", "size": "256x256"}, _PNG, file_field="image")
    ),
    "POST audio/speech": Example(
        fields={"model": "tts-1", "input": "Hello", "voice": "alloy"},
        streamed={"model": "gpt-4o-mini-tts", "stream_format": "sse"},
    ),
    "POST audio/transcriptions": Example(
        fields=Form({"model": "whisper-1"}, _WAV),
        streamed={"model": "gpt-4o-transcribe", "stream": "true"},
    ),
    "POST audio/translations": Example(fields=Form({"model": "whisper-1"}, _WAV)),
}


def name_of(row: Endpoint) -> str:
    return f"{row.method} {'/'.join(row.path)}"


OFFERED = {name_of(row): row for row in ENDPOINTS}
BILLED = {name: row for name, row in OFFERED.items() if not row.is_free}


async def send(
    worker: Worker | WorkerProcess,
    customer: Customer,
    name: str,
    body: tuple[bytes, bytes] = (b"", b""),
    *,
    base: str = "/v1/",
    **headers: str,
) -> Answer:
    """The answer to `METHOD path`; the underscores of further headers' names are hyphens."""
    method, _, path = name.partition(" ")
    content, content_type = body
    head = f"{method} {base}{path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    if content_type:
        head += f"content-type: {content_type.decode()}\r\n"
    for header, value in headers.items():
        head += f"{header.replace('_', '-')}: {value}\r\n"
    async with Connection(worker.port) as link:
        return await link._ask(head, customer.api_key, content)


async def created(gateway: Gateway, customer: Customer) -> str:
    """The id of a response that the customer has just made."""
    answer = await send(
        gateway.workers[0], customer, "POST responses", EXAMPLES["POST responses"].body()
    )
    assert answer.status == 200, answer.body
    one = json.loads(answer.body)["id"]
    assert isinstance(one, str)
    return one


async def path_of(gateway: Gateway, customer: Customer, name: str) -> str:
    """The call with the id of something of the customer's own in its path, if there is any."""
    return name.replace(ID, await created(gateway, customer)) if ID in name else name


def error_of(answer: Answer) -> dict[str, Any]:
    """The error that the client got, in the shape that every SDK reads."""
    assert answer.headers["content-type"] == "application/json"
    document = json.loads(answer.body)
    assert document.keys() == {"error"}
    error = document["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error, dict)
    return error
