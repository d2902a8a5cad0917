"""Relays one stream until it ends, its client leaves, or somebody cuts it.

When the client has left, upstream is read on for the true usage, within the operator's limits;
beyond them it is cancelled, and what it has produced until then is charged by estimate. A client
that stops reading is cut by the server (WRITE_SECONDS), and then is one that left. Until that the
stream waits for it, and upstream waits for us: nothing is gathered in between.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from relay.calls import OpenCall
from relay.endpoints.base import StreamMeter
from relay.errors import RelayError
from relay.exchange import ClientLeft
from relay.far_timers import Timer, far_timers
from relay.headers import client_headers
from relay.metering.settlement import NOTHING
from relay.runtime import Runtime
from relay.upstream import UpstreamError, UpstreamResponse
from relay.upstream_errors import from_failure

OK = 200
END_SECONDS = 0.5


class Unfinished(Exception):
    """The answer broke, and its kind has no way to say so: the connection must break, too."""


class StreamRelay:
    def __init__(
        self, call: OpenCall, response: UpstreamResponse, *, meter: StreamMeter, runtime: Runtime
    ) -> None:
        self.broke = False
        """Upstream failed after it had begun to answer."""
        self._call = call
        self._response = response
        self._drains = runtime.drains
        self._keep_alive_seconds = runtime.settings.keep_alive_seconds
        self._meter = meter
        self._error: RelayError | None = None
        self._run_on_task: asyncio.Task[None] | None = None  # Without its client.
        self._keep_alive: Timer | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._unsent = b""  # What has to wait until the client takes it.
        self._send_now: Callable[[bytes], bool]
        self._is_restored = call.is_restored
        self._is_silent = True  # Upstream has sent no output yet.
        self._drained_bytes = 0
        self._given_up = False  # Cancelled upstream, because its client left.

    async def run(self) -> None:
        """Relay it all. Raises RelayError where the client must see the connection break."""
        self._call.exchange.watch(self._client_left)
        self._look_later(self._keep_alive_seconds)
        try:
            await self._run()
        except Exception:
            self._settle_crashed()
            raise
        if self._meter.done:
            await self._let_upstream_end()

    async def _run(self) -> None:
        try:
            try:
                await self._forward()
            except ClientLeft:
                self._client_left()
            if self._call.client_left:
                await self._drain()
        except asyncio.CancelledError:
            if not self._call.was_cut():
                raise
        except UpstreamError as error:
            self.broke = True
            self._error = from_failure(error)
        finally:
            self._call.beyond_cuts()
            self._watch_no_more()
        if self._given_up:
            self._meter.feed(self._response.read_now())
            await self._response.close()
        await self._finish()

    # --- The client's side -----------------------------------------------------------------------

    def _client_left(self) -> None:
        if self._run_on_task is None:
            self._call.client_left = True
            self._run_on_task = asyncio.create_task(self._run_on())

    async def _run_on(self) -> None:
        """Without its client, a stream goes on for as long as it may."""
        with self._drains.one_more() as there_is_room:
            if there_is_room:
                await asyncio.sleep(self._drains.limits.seconds)
        self._given_up = True
        self._call.cut("client_left")

    def _watch_no_more(self) -> None:
        self._call.exchange.unwatch()
        if self._run_on_task is not None:
            self._run_on_task.cancel()
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        if self._pinging is not None:
            self._pinging.cancel()

    def _look_later(self, seconds: float) -> None:
        if self._keep_alive_seconds and self._meter.keep_alive:
            timers = far_timers(asyncio.get_running_loop())
            self._keep_alive = timers.call_later(seconds, self._look)

    def _look(self) -> None:
        """Tell the client now and then that a silent upstream is still there."""
        if self._call.client_left:
            return
        pause, silent = self._keep_alive_seconds, self._response.silent_seconds
        if silent < pause:
            self._look_later(pause - silent)
            return
        if self._meter.is_between_events:
            self._pinging = asyncio.create_task(self._ping())
        self._look_later(pause)

    async def _ping(self) -> None:
        with suppress(ClientLeft):
            await self._call.exchange.stream_unless_full(self._meter.keep_alive)

    # --- The upstream's side ---------------------------------------------------------------------

    async def _forward(self) -> None:
        """Until the stream ends, or its client is seen to have left."""
        call, meter, exchange = self._call, self._meter, self._call.exchange
        headers = client_headers(self._response.header)
        if call.has_begun_early:
            call.has_begun_early = False
        elif meter.is_event_stream:
            await exchange.stream_start(headers)
        else:
            await exchange.respond_start(OK, headers)
        self._response.forget_headers()
        self._send_now = exchange.writer()
        while not await self._response.pass_on(self._take):
            if self._unsent:
                unsent, self._unsent = self._unsent, b""
                await exchange.stream(unsent)
            if meter.done or meter.error is not None or call.client_left:
                return

    def _take(self, chunk: bytes) -> bool:
        """Pass a chunk on. Returns whether the next one may follow at once."""
        call, meter = self._call, self._meter
        forward = meter.feed(chunk)  # Before the send: what was produced is owed.
        if self._is_silent and meter.output_seen:
            self._is_silent = False
            call.first_token_ms = call.exchange.elapsed_ms()
        if meter.characters > call.covered_characters:
            call.cover(meter.characters)
        if call.client_left:
            self._drained_bytes = len(chunk)
            return False
        if forward:
            if meter.ids:
                self._hand_out()
            if self._is_restored:
                forward = call.restored(forward)
            if not self._send_now(forward):
                self._unsent = forward
                return False
        return not meter.done and meter.error is None

    async def _drain(self) -> None:
        call, meter = self._call, self._meter
        while not (meter.done or meter.error is not None):
            if self._drained_bytes > self._drains.limits.bytes:
                self._given_up = True
                return
            chunk = await self._response.read()
            if not chunk:
                return
            self._drained_bytes += len(chunk)
            meter.feed(chunk)
            if meter.characters > call.covered_characters:
                call.cover(meter.characters)

    async def _let_upstream_end(self) -> None:
        """Behind `[DONE]` only the end of the body comes; with it the connection serves again."""
        with suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                while await self._response.read():
                    pass

    # --- The end ---------------------------------------------------------------------------------

    async def _finish(self) -> None:
        """Settle, then send the last bytes: the client sees an end only of what is recorded."""
        call, meter = self._call, self._meter
        last = meter.finish()
        self._hand_out()
        error = self._error
        if not (meter.error or meter.is_complete or call.client_left):
            error = error or call.unfinished()
        call.upstream_id = meter.upstream_id or ""
        try:
            self._settle()
            await call.kept()
        except RelayError as refused:
            error = error or refused
        if error is not None:
            call.exchange.log["error"] = error.code or error.type
        elif meter.error is not None:
            call.exchange.log["error"] = meter.error.code or meter.error.type
        ending = meter.ending(error)
        if ending is None:
            raise Unfinished from error
        await call.exchange.stream_end(call.restored(last + ending))

    def _hand_out(self) -> None:
        """What the next piece names is the organization's own, before it has it."""
        ids = self._meter.ids
        if ids:
            self._call.hand_out(ids)
            ids.clear()

    def _settle(self) -> None:
        call, meter = self._call, self._meter
        if not (meter.is_complete or meter.output_seen or call.client_left):
            call.settle("upstream_error", NOTHING, status=OK)
            return
        outcome = "completed" if meter.is_complete else "interrupted"
        # Who leaves so that the call must be cancelled pays for the prompt that upstream read.
        price = call.price(meter, produced=meter.output_seen or self._given_up)
        call.settle("client_left" if call.client_left else outcome, price, status=OK)

    def _settle_crashed(self) -> None:
        """An error of our own: what the client has got until then is not given away."""
        call, meter = self._call, self._meter
        if call.is_open and call.exchange.status and meter.output_seen:
            call.upstream_id = meter.upstream_id or ""
            with suppress(RelayError):
                price = call.price(meter, produced=True)
                call.settle("interrupted", price, status=OK)
