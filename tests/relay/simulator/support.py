"""A client that sees the bytes: sockets, unfinished bodies and all."""

import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

TIMEOUT_SECONDS = 10
MOST_POLLS = 5_000
KEY = "sk-simulated-0123456789"
BOUNDARY = "simulated-boundary"


@dataclass(frozen=True)
class RawResponse:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    # False if the connection closed before the end that chunks or content-length announce.
    is_whole: bool

    def header(self, name: str) -> str | None:
        values = [value for each, value in self.headers if each == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def document(self) -> Any:
        return json.loads(self.body)

    def data(self) -> list[bytes]:
        """The data of the events of a stream with plain framing."""
        blocks = self.body.split(b"\n\n")
        assert blocks.pop() == b"", "the last event is not closed by a blank line"
        assert all(block.startswith(b"data: ") for block in blocks)
        return [block.removeprefix(b"data: ") for block in blocks]

    def chunks(self) -> list[dict[str, Any]]:
        return [json.loads(data) for data in self.data() if data != b"[DONE]"]


def chat_body(simulate: dict[str, Any] | None = None, /, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    if simulate is not None:
        body["simulate"] = simulate
    return body | fields


def stream_body(simulate: dict[str, Any] | None = None, /, **fields: Any) -> dict[str, Any]:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    return chat_body(simulate, **options | fields)


@dataclass(frozen=True)
class Form:
    """A form with one file, and fields whose values are lists or texts."""

    fields: dict[str, Any]
    file: bytes
    filename: str = "a.wav"
    file_field: str = "file"

    def encoded(self) -> bytes:
        parts = [
            (f'name="{name}"', text.encode())
            for name, value in self.fields.items()
            for text in (value if isinstance(value, list) else [value])
        ]
        parts.append((f'name="{self.file_field}"; filename="{self.filename}"', self.file))
        opening = f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
        written = (f"{opening}{head}\r\n\r\n".encode() + data + b"\r\n" for head, data in parts)
        return b"".join(written) + f"--{BOUNDARY}--\r\n".encode()


def simulate_form(simulate: dict[str, Any], fields: dict[str, Any], file: bytes) -> Form:
    return Form(fields | {"simulate": json.dumps(simulate)}, file)


def events_of(response: RawResponse) -> list[tuple[str | None, Any]]:
    """The events of a plainly framed stream: their names, and their data."""
    blocks = response.body.decode().split("\n\n")
    assert blocks.pop() == "", "the last event is not closed by a blank line"
    events = []
    for block in blocks:
        *names, data = block.split("\n")
        text = data.removeprefix("data: ")
        name = names[0].removeprefix("event: ") if names else None
        events.append((name, text if text == "[DONE]" else json.loads(text)))
    return events


class Upstream:
    """A running simulator."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self._requests_url = f"http://127.0.0.1:{port}/simulator/requests"

    def connect(
        self, body: Any, *, path: str = "/v1/chat/completions", method: str = "POST", key: str = KEY
    ) -> socket.socket:
        """A connection on which the call has been sent."""
        if isinstance(body, Form):
            kind, payload = f"multipart/form-data; boundary={BOUNDARY}", body.encoded()
        else:
            kind = "application/json"
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: simulator\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
        )
        connection = socket.create_connection(self._address, timeout=TIMEOUT_SECONDS)
        connection.sendall(head.encode() + payload)
        return connection

    def call(
        self, body: Any, *, path: str = "/v1/chat/completions", method: str = "POST", key: str = KEY
    ) -> RawResponse:
        received = bytearray()
        with self.connect(body, path=path, method=method, key=key) as connection:
            while part := connection.recv(1 << 20):
                received += part
        return response_parse(bytes(received))

    def requests(self, tag: str) -> dict[str, Any]:
        with urlopen(f"{self._requests_url}?tag={tag}", timeout=TIMEOUT_SECONDS) as answer:
            report: dict[str, Any] = json.load(answer)
        return report

    def requests_forget(self) -> None:
        request = Request(self._requests_url, method="DELETE")
        with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            assert json.load(answer) == {"total": 0, "data": []}

    def await_outcome(self, tag: str, outcome: str) -> dict[str, Any]:
        """The only call with the tag, as soon as its answer has come to the outcome."""
        for _ in range(MOST_POLLS):
            seen = self.requests(tag)["data"]
            if seen and seen[0]["outcome"] == outcome:
                (only,) = seen
                assert isinstance(only, dict)
                return only
        raise AssertionError(f"{tag} is not {outcome}: {seen}")


def response_parse(received: bytes) -> RawResponse:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
    fields = dict(headers)
    is_whole = True
    if fields.get("transfer-encoding") == "chunked":
        body, is_whole = _dechunked(body)
    elif "content-length" in fields:
        is_whole = len(body) == int(fields["content-length"])
    return RawResponse(int(first.split(" ")[1]), headers, body, is_whole)


def _dechunked(body: bytes) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return b"".join(parts), body == b"\r\n"
        parts.append(body[:length])
        body = body[length + 2 :]
    return b"".join(parts), False
