"""Callers that keep their own account of what they asked for and which answers they saw whole."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from tests.faults.customers import MODEL, Customer
from tests.faults.http_client import Answer, Connection

PATH = "/v1/chat/completions"
CALL_SECONDS = 60.0
SHAPES = 60
COMPLETE = "complete"
_AGAIN_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One kind of call, with the usage that the simulated upstream is told to report."""

    stream: bool = False
    include_usage: bool = False
    prompt_tokens: int = 20
    cached_tokens: int = 0
    completion_tokens: int = 10
    chunks: int = 5
    delay_ms: int = 0
    chunk_delay_ms: int = 0

    def body(self, **more: Any) -> bytes:
        knobs = {
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
            "chunks": self.chunks,
            "delay_ms": self.delay_ms,
            "chunk_delay_ms": self.chunk_delay_ms,
        }
        document: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "How much is it this time?"}],
            "stream": self.stream,
            "max_tokens": self.completion_tokens + 10,
            "simulate": knobs,
        }
        if self.include_usage:
            document["stream_options"] = {"include_usage": True}
        return json.dumps({**document, **more}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one caller saw of one call."""

    organization: str
    wish: Wish
    began_at: float  # By the clock of this process.
    seconds: float
    answer: Answer
    code: str  # How it ended, in a word.
    disagreement: str  # What is wrong with an answer that looks complete.

    @property
    def request_id(self) -> str:
        return self.answer.headers.get("x-request-id", "").removeprefix("req_")

    @property
    def is_complete(self) -> bool:
        return self.code == COMPLETE


def _looks_complete(wish: Wish, answer: Answer) -> bool:
    """Whether the caller has every reason to think that the call succeeded."""
    if answer.status != 200:
        return False
    if not wish.stream:
        return answer.is_whole
    return b"data: [DONE]" in answer.body and b'data: {"error"' not in answer.body


def _code(wish: Wish, answer: Answer) -> str:
    if _looks_complete(wish, answer):
        return COMPLETE
    if not answer.is_whole:
        return "broken"
    return "cut" if answer.status == 200 else str(answer.status)


def _disagreement(wish: Wish, answer: Answer) -> str:
    if "x-request-id" not in answer.headers:
        return "it has no request id"
    told = _usage_told(wish, answer.body)
    if wish.stream and not wish.include_usage:
        return f"it tells {told}, which nobody asked for" if told else ""
    if told is None:
        return "it tells no usage"
    counts = (told["prompt_tokens"], told["completion_tokens"])
    return "" if counts == (wish.prompt_tokens, wish.completion_tokens) else f"it tells {told}"


def _usage_told(wish: Wish, body: bytes) -> dict[str, Any] | None:
    if not wish.stream:
        usage: dict[str, Any] | None = json.loads(body).get("usage")
        return usage
    events = [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event]
    usages = [json.loads(event).get("usage") for event in events if event != b"[DONE]"]
    found = [usage for usage in usages if usage is not None]
    assert len(found) < 2, "usage is told twice"
    return found[0] if found else None


def shapes(seed: int) -> list[Wish]:
    """Calls of all kinds; some streams last longer than a second."""
    dice = random.Random(seed)
    found = []
    for _ in range(SHAPES):
        stream = dice.random() < 0.5
        slow = stream and dice.random() < 0.2
        prompt = dice.randint(5, 200)
        found.append(
            Wish(
                stream=stream,
                include_usage=stream and dice.random() < 0.5,
                prompt_tokens=prompt,
                cached_tokens=dice.randint(0, prompt) if dice.random() < 0.3 else 0,
                completion_tokens=dice.randint(20, 60),
                chunks=20 if slow else dice.randint(1, 8),
                chunk_delay_ms=60 if slow else 0,
                delay_ms=dice.choice([0, 0, 0, 20]),
            )
        )
    return found


def callers(port: int, number: int) -> list[Connection]:
    """Connections to whichever worker accepts them."""
    return [Connection(port) for _ in range(number)]


class Load:
    """Callers that go on, whatever they meet, until they are told to stop."""

    def __init__(self, connections: Sequence[Connection], customers: Sequence[Customer]) -> None:
        """One caller for each connection; the customers take turns."""
        self.replies: list[Reply] = []
        self._connections = connections
        self._customers = customers
        self._shapes = [(wish, wish.body()) for wish in shapes(seed=len(connections))]
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._call_on(number, connection))
            for number, connection in enumerate(self._connections)
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def complete(self, number: int) -> None:
        """Wait for so many more complete answers to calls that begin from now on."""
        begin = time.monotonic()
        async with asyncio.timeout(CALL_SECONDS):
            while len([r for r in self.since(begin) if r.is_complete]) < number:
                await asyncio.sleep(0.02)

    def since(self, moment: float) -> list[Reply]:
        """The replies to calls that began after that moment."""
        return [reply for reply in self.replies if reply.began_at >= moment]

    @property
    def codes(self) -> Counter[str]:
        return Counter(reply.code for reply in self.replies)

    async def _call_on(self, number: int, connection: Connection) -> None:
        dice = random.Random(number)
        customer = self._customers[number % len(self._customers)]
        async with connection:
            while not self._stopping:
                wish, body = dice.choice(self._shapes)
                reply = await call(connection, customer, wish, body=body)
                self.replies.append(_without_body(reply))
                if not reply.is_complete:
                    await asyncio.sleep(_AGAIN_SECONDS)


async def call(
    connection: Connection, customer: Customer, wish: Wish, *, body: bytes | None = None
) -> Reply:
    """One call on that connection."""
    began_at = time.monotonic()
    async with asyncio.timeout(CALL_SECONDS):
        answer = await connection.post(PATH, customer.api_key, body or wish.body())
    code = _code(wish, answer)
    return Reply(
        organization=customer.organization,
        wish=wish,
        began_at=began_at,
        seconds=time.monotonic() - began_at,
        answer=answer,
        code=code,
        disagreement=_disagreement(wish, answer) if code == COMPLETE else "",
    )


def _without_body(reply: Reply) -> Reply:
    """There may be very many of them."""
    return replace(reply, answer=replace(reply.answer, body=b""))
