"""Relays one stream until it ends, its client leaves, or somebody cuts it.

When the client has left, upstream is read on for the true usage, within the operator's limits;
beyond them it is cancelled, and what it has produced until then is charged by estimate. A client
that stops reading is cut by the server (WRITE_SECONDS), and then is one that left. Until that the
stream waits for it, and upstream waits for us: nothing is gathered in between.
"""

import asyncio
from contextlib import suppress

from relay.calls import OpenCall
from relay.endpoints.base import StreamMeter
from relay.errors import RelayError
from relay.exchange import ClientLeft
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
        self._client: asyncio.Task[None]  # Watches it.
        self._drained_bytes = 0
        self._given_up = False  # Cancelled upstream, because its client left.

    async def run(self) -> None:
        """Relay it all. Raises RelayError where the client must see the connection break."""
        self._client = asyncio.create_task(self._attend_client())
        try:
            await self._run()
        except Exception:
            self._settle_crashed()
            raise
        if self._meter.done:
            await self._let_upstream_end()

    async def _run(self) -> None:
        try:
            await self._pump()
        except asyncio.CancelledError:
            if not self._call.was_cut():
                raise
        except UpstreamError as error:
            self.broke = True
            self._error = from_failure(error)
        finally:
            self._call.beyond_cuts()
            self._client.cancel()
        if self._given_up:
            self._meter.feed(self._response.read_now())
            await self._response.close()
        await self._finish()

    # --- The client's side -----------------------------------------------------------------------

    async def _attend_client(self) -> None:
        with suppress(ClientLeft):
            await self._departure()
        await self._run_on()

    async def _run_on(self) -> None:
        """Without its client, a stream goes on for as long as it may."""
        self._call.client_left = True
        with self._drains.one_more() as there_is_room:
            if there_is_room:
                await asyncio.sleep(self._drains.limits.seconds)
        self._given_up = True
        self._call.cut("client_left")

    async def _departure(self) -> None:
        """Until the client leaves, tell it now and then that a silent upstream is still there."""
        departure, pause = self._call.exchange.departure, self._keep_alive_seconds
        wait = pause or None
        while True:
            try:
                async with asyncio.timeout(wait):
                    return await departure()
            except TimeoutError:
                silent = self._response.silent_seconds
                wait = pause - silent if silent < pause else pause
            if silent >= pause and self._meter.is_between_events and self._meter.keep_alive:
                await self._call.exchange.stream(self._meter.keep_alive)

    # --- The upstream's side ---------------------------------------------------------------------

    async def _pump(self) -> None:
        try:
            await self._forward()
        except ClientLeft:
            self._client.cancel()
            self._client = asyncio.create_task(self._run_on())
            self._call.client_left = True
        if self._call.client_left:
            await self._drain()

    async def _forward(self) -> None:
        """Until the stream ends, or its client is seen to have left."""
        call, meter, read = self._call, self._meter, self._response.read
        stream, ids, restored = call.exchange.stream, meter.ids, call.is_restored
        headers, is_silent = client_headers(self._response.header), True
        if call.has_begun_early:
            call.has_begun_early = False
        elif meter.is_event_stream:
            await call.exchange.stream_start(headers)
        else:
            await call.exchange.respond_start(OK, headers)
        while chunk := await read():
            forward = meter.feed(chunk)  # Before the send: what was produced is owed.
            if is_silent and meter.output_seen:
                is_silent = False
                call.first_token_ms = call.exchange.elapsed_ms()
            if meter.characters > call.covered_characters:
                call.cover(meter.characters)
            if call.client_left:
                self._drained_bytes = len(chunk)
                return
            if forward:
                if ids:
                    self._hand_out()
                await stream(call.restored(forward) if restored else forward)
            if meter.done or meter.error is not None:
                return

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
