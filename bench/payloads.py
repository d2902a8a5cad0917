"""The requests of the lanes, rendered once into files that the load programs send. Pure."""

import json
from collections.abc import Iterable, Sequence

Header = tuple[str, str]

CHAT = "bench-chat"
PATH = "/v1/chat/completions"
# What the official Python SDK sends, as far as a gateway looks at it.
COMMON: tuple[Header, ...] = (
    ("accept", "application/json"),
    ("content-type", "application/json"),
    ("user-agent", "OpenAI/Python 2.8.1"),
    ("x-stainless-lang", "python"),
    ("x-stainless-retry-count", "0"),
)


def stream_model(deltas: int, milliseconds: int) -> str:
    """The model that the upstream streams so many deltas of, so far apart."""
    return f"bench-stream-{deltas}-{milliseconds}"


def chat_body(*, model: str = CHAT, size: int = 1024, stream: bool = False) -> bytes:
    """A chat request of about that many bytes: turns of a conversation, not one long string."""
    turn = "Every unhappy family is unhappy in its own way, says the book that you gave me. " * 6
    messages = [{"role": "system", "content": "Answer in one sentence."}]
    document = {"model": model, "messages": messages, "temperature": 0.5, "max_tokens": 256}
    if stream:
        document["stream"] = True
    # What a turn needs beside its text.
    frame = len(', {"role": "assistant", "content": ""}')
    while (missing := size - len(json.dumps(document))) > frame:
        role = "assistant" if len(messages) % 2 == 0 else "user"
        messages.append({"role": role, "content": turn[: missing - frame]})
    return json.dumps(document).encode()


def render(body: bytes, headers: Iterable[Header], *, path: str = PATH) -> bytes:
    """The whole request."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost"]
    lines += [f"{name}: {value}" for name, value in (*COMMON, *headers)]
    lines += [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def bundle(requests: Sequence[bytes]) -> bytes:
    """Requests as the load programs read them: each behind a line with its length."""
    return b"".join(b"%d\n%b" % (len(request), request) for request in requests)
