"""Honours Idempotency-Key: one call and one charge, however often the request is sent.

Only requests with a key come here, and only they wait for the database. Such a call runs to its
end even if its client leaves, because the client may ask for the answer again. The answer is
stored before its last byte goes out, so who has it whole finds it stored.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

from accounts.directory import Principal
from billing.engine import Connection, OutcomeUnknown
from billing.engine.database import Database
from relay import errors
from relay.asgi_types import Message, Send
from relay.endpoints.base import Handler
from relay.endpoints.table import BodyKind, Endpoint
from relay.exchange import Exchange
from relay.headers import Header
from relay.idempotency import errors as idempotency_errors
from relay.idempotency import store as idempotency_store
from relay.idempotency.store import (
    MAX_KEPT_BYTES,
    MAX_KEYS,
    Earlier,
    Key,
    KeysUsed,
    StoredAnswer,
    Use,
)

logger = logging.getLogger("tollgate.relay")

HEADER: Final = b"idempotency-key"
REPLAYED: Final[Header] = (b"idempotent-replayed", b"true")
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
# Answers that wait in memory for a database that is away.
MAX_UNWRITTEN_BYTES: Final = 64 * 1024 * 1024
RETRY_SECONDS: Final = 1.0
# A record may be in the database before its call's answer: how long that is waited for.
ANSWER_SECONDS: Final = 3.0
ANSWER_POLL_SECONDS: Final = 0.1
# Of one organization's requests that wait for the database at once.
AT_ONCE: Final = 4
# How many keys an organization may take before they are counted again, and for how long.
COUNT_EVERY: Final = 100
COUNT_SECONDS: Final = 60.0
MAX_REMEMBERED: Final = 4096
# SDKs that are made by Stainless make such keys up for their own retries. Nobody chose them, and
# they would cost each call the database.
_AUTOMATIC: Final = re.compile(rb"stainless-[a-z]+-retry-")
_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")
# Each exchange adds its own.
_NOT_STORED: Final = (b"x-request-id", b"content-length", b"access-control-")
_FREE: Final = frozenset({None, "upstream_error"})  # Outcomes that cost nothing.
_WHOLE: Final = frozenset({"completed", "interrupted", "client_left"})

Serve = Callable[[Exchange, Principal, Handler[Any], str | None], Awaitable[None]]
ServeRead = Callable[[Exchange, Principal, Handler[Any], Any], Awaitable[None]]


def key_of(exchange: Exchange, endpoint: Endpoint) -> str | None:
    """The key that is to be honoured, if there is any. Raises RelayError."""
    sent = {value for name, value in exchange.headers if name == HEADER}
    if not sent or endpoint.is_free:
        return None
    if len(sent) > 1:
        raise idempotency_errors.invalid_key("there is more than one")
    (key,) = sent
    if _AUTOMATIC.match(key):
        return None
    if not _KEY.fullmatch(key):
        raise idempotency_errors.invalid_key("it must be 1 to 255 visible ASCII characters")
    return key.decode()


@dataclass(slots=True, kw_only=True)
class _Tally:
    """The keys that an organization used when they were counted."""

    used: KeysUsed
    until: float
    left: int


class Idempotency:
    def __init__(
        self, *, serve: Serve, serve_read: ServeRead, database: Database, body_limit_bytes: int
    ) -> None:
        """`serve_read` serves a call of which the request has been read."""
        self._serve = serve
        self._serve_read = serve_read
        self._database = database
        self._body_limit_bytes = body_limit_bytes
        self._turns: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()
        self._tallies: dict[int, _Tally] = {}
        self._unwritten: dict[Use, StoredAnswer | None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._write_for_ever())

    async def stop(self) -> None:
        """When no call is open any more: write what is not written yet, if the database lets us."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._write()
        except OutcomeUnknown as error:
            logger.error("Answers under %s keys are lost: %s", len(self._unwritten), error)  # noqa: TRY400  The trace says nothing more.
        await self._database.close()

    async def serve(
        self,
        exchange: Exchange,
        principal: Principal,
        handler: Handler[Any],
        argument: str | None,
        key: str,
    ) -> None:
        """Answer a call as if it had no key, once; and then the same again. Raises RelayError."""
        endpoint = handler.endpoint
        use = partial(
            Use,
            key=Key(principal.organization_id, endpoint.name, key),
            request_id=exchange.id,
        )
        if endpoint.body is BodyKind.JSON:
            body = await exchange.body(endpoint.body_limit_bytes or self._body_limit_bytes)
            serve = partial(self._serve, exchange, principal, handler, argument)
            await self._serve_once(
                exchange, use(body_digest=hashlib.sha256(body).digest()), serve, body=body
            )
            return
        request = await handler.read(exchange, argument)
        try:
            # Whether a form was sent before is known when all of it has come, and not earlier.
            digest = await handler.digest(request)
            serve = partial(self._serve_read, exchange, principal, handler, request)
            await self._serve_once(exchange, use(body_digest=digest), serve)
        finally:
            handler.close(request)

    async def _serve_once(
        self,
        exchange: Exchange,
        use: Use,
        serve: Callable[[], Awaitable[None]],
        *,
        body: bytes | None = None,
    ) -> None:
        """`body` is what `serve` will read; None: it was read already."""
        earlier, room = await self._claim_in_time(use)
        if earlier is not None:
            await _repeat(exchange, earlier)
            return
        recording = Recording(body, limit_bytes=room, ended=partial(self._ended, exchange, use))
        try:
            with exchange.intercepted(recording.receive, recording.send):
                await serve()
        except BaseException:
            if not exchange.status and exchange.log.get("outcome") in _FREE:
                await self._end(use, None)
            raise

    async def _ended(self, exchange: Exchange, use: Use, answer: StoredAnswer) -> None:
        """All but the last byte is out, and the call is settled."""
        outcome = exchange.log.get("outcome")
        if outcome in _WHOLE:
            await self._end(use, answer)
        elif outcome in _FREE:
            await self._end(use, None)
        # Else the journal failed, and what becomes of the call its record will tell.

    # --- Claiming --------------------------------------------------------------------------------

    async def _claim_in_time(self, use: Use) -> tuple[Earlier | None, int]:
        """As `_claim`; the answer of a call that has just ended may be on its way."""
        loop = asyncio.get_running_loop()
        until = loop.time() + ANSWER_SECONDS
        while True:
            earlier, room = await self._claim(use)
            if earlier is None or not earlier.lacks_answer or loop.time() >= until:
                return earlier, room
            await asyncio.sleep(ANSWER_POLL_SECONDS)

    async def _claim(self, use: Use) -> tuple[Earlier | None, int]:
        """Who came before, if anybody; and how large an answer may be kept. Raises RelayError."""
        organization_id = use.key.organization_id
        async with self._turns.setdefault(organization_id, asyncio.Semaphore(AT_ONCE)):
            try:
                tally = await self._counted(organization_id)
                earlier = await self._database.run(partial(idempotency_store.claim, use=use))
            except OutcomeUnknown:
                self._unwritten[use] = None  # It may be claimed, for a call that will not be made.
                self._wake.set()
                raise errors.store_unavailable() from None
        if earlier is None:
            tally.left -= 1
            if tally.used.keys >= MAX_KEYS:
                await self._end(use, None)
                raise idempotency_errors.too_many_keys(MAX_KEYS, retry_after_seconds=COUNT_SECONDS)
        return earlier, MAX_ANSWER_BYTES if tally.used.kept_bytes < MAX_KEPT_BYTES else 0

    async def _counted(self, organization_id: int) -> "_Tally":
        """How many keys it uses, nearly: they are counted now and then only."""
        now = asyncio.get_running_loop().time()
        tally = self._tallies.get(organization_id)
        if tally is None or now >= tally.until or tally.left <= 0:
            used = await self._database.run(
                partial(idempotency_store.keys_used, organization_id=organization_id)
            )
            if len(self._tallies) >= MAX_REMEMBERED:
                self._tallies.clear()
            tally = self._tallies[organization_id] = _Tally(
                used=used, until=now + COUNT_SECONDS, left=COUNT_EVERY
            )
        return tally

    # --- Ending ----------------------------------------------------------------------------------

    async def _end(self, use: Use, answer: StoredAnswer | None) -> None:
        """Store the answer, or (None) give the key back; later, if the database is away."""
        try:
            await self._database.run(partial(_end, use=use, answer=answer))
        except OutcomeUnknown:
            self._unwritten[use] = answer
            self._wake.set()

    async def _write_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._write()
            except OutcomeUnknown:
                self._forget_what_is_too_much()
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def _write(self) -> None:
        for use, answer in list(self._unwritten.items()):
            await self._database.run(partial(_end, use=use, answer=answer))
            self._unwritten.pop(use, None)

    def _forget_what_is_too_much(self) -> None:
        """Without its answer, a key is refused from now on, as one whose server has stopped."""
        waiting = sum(len(answer.body or b"") for answer in self._unwritten.values() if answer)
        for use, answer in list(self._unwritten.items()):
            if waiting <= MAX_UNWRITTEN_BYTES:
                return
            if answer is not None:
                waiting -= len(answer.body or b"")
                del self._unwritten[use]


async def _end(connection: Connection, *, use: Use, answer: StoredAnswer | None) -> None:
    if answer is None:
        await idempotency_store.released(connection, use)
    else:
        await idempotency_store.answered(connection, use, answer)


async def _repeat(exchange: Exchange, earlier: Earlier) -> None:
    """Answer who is not the first. Raises RelayError."""
    request_id = f"req_{earlier.request_id.hex}"
    if not earlier.same_body:
        raise idempotency_errors.other_body()
    answer = earlier.answer
    if answer is None and earlier.charge_nano_usd is None:
        raise idempotency_errors.still_running()
    if answer is None or answer.body is None:
        raise idempotency_errors.answer_not_kept(request_id, earlier.charge_nano_usd)
    exchange.log["replay_of"] = request_id
    # The id, too, is the answer's own: it is the one that the usage record has.
    exchange.request_id = request_id
    await exchange.answer(answer.status, [*answer.headers, REPLAYED], answer.body)


class Recording:
    """Keeps what is sent to the client, who may leave meanwhile without anybody noticing."""

    def __init__(
        self,
        body: bytes | None,
        *,
        limit_bytes: int,
        ended: Callable[[StoredAnswer], Awaitable[None]],
    ) -> None:
        self._body = body
        self._limit_bytes = limit_bytes
        self._ended = ended
        self._status = 0
        self._headers: list[Header] = []
        self._pieces: list[bytes] = []
        self._size = 0
        self._client_left = False

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body}
        # The server tells who sends that its client has left; the call is not to hear of it.
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    async def send(self, forward: Send, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [h for h in message["headers"] if not h[0].startswith(_NOT_STORED)]
        else:
            self._keep(message.get("body", b""))
            if not message.get("more_body"):
                await self._ended(self._answer())
        if not self._client_left:
            try:
                await forward(message)
            except (OSError, RuntimeError):
                self._client_left = True

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self._limit_bytes:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def _answer(self) -> StoredAnswer:
        body = b"".join(self._pieces) if self._size <= self._limit_bytes else None
        return StoredAnswer(status=self._status, headers=self._headers, body=body)
