"""POST /chat/completions: admit, hold, send, relay, settle. The only file that knows it all."""

import asyncio
import random
from contextlib import suppress

import msgspec

from accounts.directory import Principal
from billing.catalog import Quote
from relay import errors
from relay.calls import OpenCall
from relay.channel_table import ChannelRoute
from relay.errors import RelayError, render_event
from relay.exchange import Exchange
from relay.headers import client_headers, upstream_headers
from relay.meter import ChatStreamMeter, meter_body
from relay.requests import ChatRequest, InvalidRequest, parse_chat, upstream_body
from relay.reservation import reserve_chat
from relay.routing import choose
from relay.runtime import Runtime
from relay.settlement import Price, Reading, price_chat
from relay.upstream import (
    FirstByteTimeout,
    IdleTimeout,
    TotalTimeout,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
)
from relay.upstream_errors import from_upstream

ENDPOINT = "chat/completions"
DONE = b"data: [DONE]\n\n"
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
ERROR_LIMIT_BYTES = 1024 * 1024
OK = 200
INTERNAL_ERROR = 500
# Upstream says with these that it did not take the call, so another channel may.
NOT_TAKEN = frozenset({429, 503})


class ChatEndpoint:
    def __init__(self, runtime: Runtime) -> None:
        self.open_calls: set[OpenCall] = set()
        self._runtime = runtime
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_idle(self) -> None:
        """Returns when no call is open."""
        await self._idle.wait()

    async def serve(self, exchange: Exchange, principal: Principal) -> None:
        """Answer one call. Raises RelayError while nothing of the answer was sent."""
        settings = self._runtime.settings
        request = parse_chat(await exchange.body(settings.body_limit_bytes))
        exchange.log |= {"model": request.model, "stream": request.stream}
        quote, candidates = self._offer(request, principal)
        reservation = reserve_chat(
            request,
            quote,
            organization_id=principal.organization_id,
            policy=settings.hold_policy,
        )
        call = OpenCall(
            exchange=exchange,
            principal=principal,
            request=request,
            quote=quote,
            reservation=reservation,
        )
        self.open_calls.add(call)
        self._idle.clear()
        try:
            with call.cuttable():
                await self._relay(call, candidates)
            if not exchange.status:  # It was cut.
                raise _unfinished(call) if call.was_sent else errors.server_draining()
        except RelayError as error:
            _end(call, status=error.status)
            raise
        finally:
            _end(call, status=INTERNAL_ERROR)
            self.open_calls.discard(call)
            if not self.open_calls:
                self._idle.set()

    def _offer(
        self, request: ChatRequest, principal: Principal
    ) -> tuple[Quote, list[ChannelRoute]]:
        """The price of the call and the channels that could serve it; no price, no call."""
        catalog, model = self._runtime.catalog, request.model
        if catalog is None:
            raise errors.store_unavailable()
        allowed = principal.allowed_models
        quote = catalog.quote(model, principal.organization_id)
        if quote is None or (allowed is not None and model not in allowed):
            raise errors.model_not_found(model)
        candidates = self._runtime.channels.candidates(model)
        if not candidates:
            raise errors.model_not_found(model)
        if not quote.terms.prices_tier(request.service_tier):
            raise InvalidRequest(
                f"Invalid value for 'service_tier': the model has no price for "
                f"'{request.service_tier}'.",
                param="service_tier",
                code="unsupported_value",
            )
        return quote, candidates

    async def _relay(self, call: OpenCall, candidates: list[ChannelRoute]) -> None:
        deadlines = self._runtime.settings.deadlines
        hold = await call.open(self._runtime.engine, seconds=deadlines.total_seconds)
        free_models = self._runtime.settings.free_tier_models
        if hold.free_tier and free_models and call.request.model not in free_models:
            raise errors.model_not_found(call.request.model)
        cap = call.reservation.output_cap(amount_nano_usd=hold.amount_nano_usd, strict=hold.strict)
        response = await self._send(call, candidates, cap)
        async with response:
            if response.status != OK:
                raise await _refusal(response)
            if call.request.stream and _is_stream(response):
                await StreamRelay(call, response, self._runtime).run()
            else:
                await _relay_body(call, response)

    async def _send(
        self, call: OpenCall, candidates: list[ChannelRoute], cap: int | None
    ) -> UpstreamResponse:
        """Send to one channel after another, as long as none took the call."""
        tried: set[int] = set()
        refusal = errors.upstream_unavailable()
        while True:
            route = choose(candidates, tried=tried, draw=random.random())  # noqa: S311  It balances load.
            if route is None:
                raise refusal
            tried.add(route.id)
            call.sent_to(route, ENDPOINT)
            try:
                response = await self._runtime.upstream.send(self._request(call, route, cap))
            except UpstreamError as error:
                refusal = _told(error)
                if error.sent:
                    raise refusal from error
                continue
            call.first_byte_ms = call.exchange.elapsed_ms()
            if response.status in NOT_TAKEN and len(tried) < len(candidates):
                refusal = await _refusal(response)
                await response.close()
                continue
            return response

    def _request(self, call: OpenCall, route: ChannelRoute, cap: int | None) -> UpstreamRequest:
        terms = call.quote.terms
        return UpstreamRequest(
            destination=route.destination,
            target=route.base_path + b"/" + ENDPOINT.encode(),
            headers=upstream_headers(
                call.exchange.headers,
                host=route.destination.authority,
                authorization=route.authorization,
            ),
            body=upstream_body(
                call.request,
                upstream_model=route.upstream_model(call.request.model),
                include_usage=True,
                output_cap=cap,
                cap_field=terms.output_cap_field,
            ),
            deadlines=self._runtime.settings.deadlines,
        )


async def _relay_body(call: OpenCall, response: UpstreamResponse) -> None:
    """Relay an answer that is not a stream: settled whole before any of it goes out."""
    try:
        body = await response.read_all(ANSWER_LIMIT_BYTES)
    except UpstreamError as error:
        raise _told(error) from error
    answer = meter_body(body)
    if answer.kind != "completion":
        raise answer.error or errors.upstream_failed()
    call.upstream_id = answer.upstream_id or ""
    reading = Reading(
        usage=answer.usage,
        served_tier=answer.served_tier,
        output_text=answer.output_text,
        output_seen=False,
    )
    call.settle("completed", _price(call, reading), status=OK)
    await call.kept()
    headers = client_headers(response.headers)
    await call.exchange.answer(OK, headers, body)


class StreamRelay:
    """Forwards one stream until it ends, its client leaves, or somebody cuts it."""

    def __init__(self, call: OpenCall, response: UpstreamResponse, runtime: Runtime) -> None:
        self._call = call
        self._response = response
        self._drain_seconds = runtime.settings.client_left_drain_seconds
        self._meter = ChatStreamMeter(include_usage=call.request.include_usage)
        self._error: RelayError | None = None

    async def run(self) -> None:
        exchange = self._call.exchange
        await exchange.stream_start(client_headers(self._response.headers))
        departure = asyncio.create_task(self._watch_departure())
        try:
            with self._call.cuttable():
                await self._pump()
        except UpstreamError as error:
            self._error = _told(error)
        finally:
            departure.cancel()
        await self._finish()

    async def _watch_departure(self) -> None:
        """When the client leaves, upstream is read on for a while, for the true usage."""
        await self._call.exchange.departure()
        self._call.client_left = True
        await asyncio.sleep(self._drain_seconds)
        self._call.cut("client_left")

    async def _pump(self) -> None:
        call, meter, read = self._call, self._meter, self._response.read
        stream = call.exchange.stream
        while chunk := await read():
            forward = meter.feed(chunk)  # Before the send: what was produced is owed.
            if forward and not call.client_left:
                await stream(forward)
            if meter.done or meter.error is not None:
                return

    async def _finish(self) -> None:
        """Settle, then send the last bytes: the client sees an end only of what is recorded."""
        call, meter = self._call, self._meter
        last = meter.finish()
        error = self._error
        if meter.error is None and not meter.is_complete:
            error = error or _unfinished(call)
        reading = Reading(
            usage=meter.usage,
            served_tier=meter.served_tier,
            output_text=meter.delivered_text,
            output_seen=meter.output_seen,
        )
        call.upstream_id = meter.upstream_id or ""
        try:
            self._settle(reading, whole=meter.is_complete)
            await call.kept()
        except RelayError as refused:
            error = error or refused
        if error is not None:
            call.exchange.log["error"] = error.code or error.type
            last += render_event(error)
        elif meter.error is not None:
            call.exchange.log["error"] = meter.error.code or meter.error.type
        await call.exchange.stream_end(last + DONE)

    def _settle(self, reading: Reading, *, whole: bool) -> None:
        call = self._call
        if not whole and not reading.output_seen and not call.client_left:
            call.settle("upstream_error", Price(), status=OK)
            return
        outcome = "completed" if whole else "interrupted"
        call.settle(
            "client_left" if call.client_left else outcome, _price(call, reading), status=OK
        )


def _unfinished(call: OpenCall) -> RelayError:
    """What the client of a call that was sent and did not come to its end is told."""
    took_too_long = call.cut_reason == "deadline"
    return errors.upstream_timeout() if took_too_long else errors.upstream_failed()


def _price(call: OpenCall, reading: Reading) -> Price:
    assert call.route is not None, "a call is priced after it was sent"
    return price_chat(reading, call.request, call.quote, cost_ppm=call.route.cost_ppm)


def _end(call: OpenCall, *, status: int) -> None:
    """Whatever happened: a call that is still open was not answered, and costs nothing."""
    if not call.is_open:
        return
    if not call.was_sent:
        call.release()
        return
    with suppress(RelayError):  # The answer is an error already.
        call.settle("upstream_error", Price(), status=status)


def _is_stream(response: UpstreamResponse) -> bool:
    return any(
        name == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in response.headers
    )


async def _refusal(response: UpstreamResponse) -> RelayError:
    """What the client is told of an answer that is no success."""
    try:
        body = await response.read_all(ERROR_LIMIT_BYTES)
        document = msgspec.json.decode(body)
    except (UpstreamError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = None
    error = document.get("error") if isinstance(document, dict) else None
    return from_upstream(response.status, error, retry_after_seconds=_retry_after(response))


def _retry_after(response: UpstreamResponse) -> float | None:
    for name, value in response.headers:
        if name == b"retry-after":
            with suppress(ValueError):
                return float(value)
    return None


def _told(error: UpstreamError) -> RelayError:
    """What the client is told of a failure below HTTP."""
    if not error.sent:
        return errors.upstream_unavailable()
    if isinstance(error, FirstByteTimeout | IdleTimeout | TotalTimeout):
        return errors.upstream_timeout()
    return errors.upstream_failed()
