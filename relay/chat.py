"""POST /chat/completions: admit, hold, send, relay, settle. The only file that knows it all."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import msgspec

from accounts.directory import Principal
from billing.catalog import Quote
from relay import errors
from relay.calls import OpenCall
from relay.channel_table import ChannelRoute
from relay.errors import RelayError
from relay.exchange import Exchange
from relay.free_tier import FreeTier
from relay.headers import client_headers, upstream_headers
from relay.meter import meter_body
from relay.requests import ChatRequest, InvalidRequest, parse_chat, upstream_body
from relay.reservation import Reservation, reserve_chat
from relay.routing import choose
from relay.runtime import Runtime
from relay.settlement import Price, Reading
from relay.streaming import StreamRelay
from relay.tokenizer import tight_prompt_bound
from relay.upstream import UpstreamError, UpstreamRequest, UpstreamResponse
from relay.upstream_errors import from_failure, from_upstream

ENDPOINT = "chat/completions"
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
ERROR_LIMIT_BYTES = 1024 * 1024
OK = 200
INTERNAL_ERROR = 500
# To count a long prompt takes milliseconds: not for each call of who was just found unable to pay.
RECOUNT_SECONDS = 1.0
MAX_REMEMBERED = 4096
# Upstream says with these that it did not take the call, so another channel may.
NOT_TAKEN = frozenset({429, 503})


class ChatEndpoint:
    def __init__(self, runtime: Runtime) -> None:
        self.open_calls: set[OpenCall] = set()
        self._runtime = runtime
        self._uncounted_until: dict[int, float] = {}
        self._free_tier = FreeTier(
            models=runtime.settings.free_tier_models,
            concurrency=runtime.settings.free_tier_concurrency,
        )
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
        call = OpenCall(exchange=exchange, principal=principal, request=request, quote=quote)
        self.open_calls.add(call)
        self._idle.clear()
        try:
            with call.cuttable():
                await self._relay(call, candidates)
            if not exchange.status:  # It was cut.
                raise call.unfinished() if call.was_sent else errors.server_draining()
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
        hold = await call.open(
            self._runtime.engine,
            self._reservations(call, candidates),
            seconds=self._runtime.settings.deadlines.total_seconds,
        )
        with self._free_tier.admitted(hold, call.request.model):
            response = await self._send(call, candidates, call.output_cap())
            async with response:
                if response.status != OK:
                    raise await _refusal(response)
                if call.request.stream and _is_stream(response):
                    await StreamRelay(call, response, self._runtime).run()
                else:
                    await _relay_body(call, response)

    def _reservations(
        self, call: OpenCall, candidates: list[ChannelRoute]
    ) -> Iterator[Reservation]:
        """What the call may cost at most; and again, more closely, for those who cannot pay it."""
        reserve = partial(
            reserve_chat,
            call.request,
            call.quote,
            organization_id=call.principal.organization_id,
            policy=self._runtime.settings.hold_policy,
        )
        first = reserve()
        yield first
        request, organization_id = call.request, call.principal.organization_id
        now = asyncio.get_running_loop().time()
        # A picture may fill the context, and what a search finds is in the prompt, too.
        is_text = not (request.opaque_parts or request.wants_audio or request.searches_web)
        if not is_text or now < self._uncounted_until.get(organization_id, 0):
            return
        models = {route.upstream_model(request.model) for route in candidates}
        bound = tight_prompt_bound(request.body, models)
        if bound < first.prompt_bound:
            yield reserve(prompt_bound=bound)
        if bound < len(request.body):
            if len(self._uncounted_until) >= MAX_REMEMBERED:
                self._uncounted_until.clear()
            self._uncounted_until[organization_id] = now + RECOUNT_SECONDS

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
                refusal = from_failure(error)
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
        raise from_failure(error) from error
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
    call.settle("completed", call.price(reading), status=OK)
    await call.kept()
    headers = client_headers(response.headers)
    await call.exchange.answer(OK, headers, body)


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
