"""The life of a call, whatever its endpoint: admit, hold, send, relay, settle."""

import asyncio
from contextlib import suppress
from typing import Any

from accounts.directory import Principal
from billing.engine import Hold, InsufficientQuota
from billing.money import PPM
from billing.prices.catalog import Quote
from billing.pricing import DEFAULT_TIER, NO_TOKEN_RATES, PriceTerms
from relay import errors
from relay.bodies.fields import InvalidRequest
from relay.calls import OpenCall
from relay.channels.table import ChannelRoute
from relay.early_head import EarlyHead
from relay.endpoints.base import CallRequest, Handler
from relay.endpoints.table import BodyKind, Endpoint
from relay.errors import RelayError
from relay.exchange import ClientLeft, Exchange
from relay.headers import client_headers
from relay.limits.free_tier import FreeTier
from relay.limits.quota import quota_refusal
from relay.metering.settlement import NOTHING
from relay.routing.sending import read_refusal
from relay.runtime import Runtime
from relay.streaming import StreamRelay
from relay.tenancy import Tenancy
from relay.tenancy.namespaces import Namespaces
from relay.tenancy.ownership import Ownership
from relay.upstream import UpstreamError, UpstreamResponse
from relay.upstream_errors import from_failure

ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
OK = 200
INTERNAL_ERROR = 500
CLIENT_LEFT = 499  # As web servers write it down; nobody gets it.
# To count a long prompt takes milliseconds: not for each call of who was just found unable to pay.
RECOUNT_SECONDS = 1.0
MAX_REMEMBERED = 4096
# Sold by the batch endpoint, with its own terms; no single call is served on it.
BATCH_TIER = "batch"


# Of calls that compute nothing and have no model.
FREE = Quote(
    PriceTerms(price_id=0, model="", tiers={DEFAULT_TIER: NO_TOKEN_RATES}), discount_ppm=PPM
)


class Relaying:
    def __init__(self, runtime: Runtime) -> None:
        self.open_calls: set[OpenCall] = set()
        self._runtime = runtime
        self._uncounted_until: dict[int, float] = {}
        self._free_tier = FreeTier(
            models=runtime.settings.free_tier_models,
            concurrency=runtime.settings.free_tier_concurrency,
            limits=runtime.limits,
        )
        self._tenancy = Tenancy(
            ownership=Ownership(runtime.engine.leases_database),
            namespaces=Namespaces(secret=runtime.settings.key_pepper),
        )
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self) -> None:
        self._tenancy.ownership.start()

    async def stop(self) -> None:
        """When no call is open any more, and while the database is still connected."""
        await self._tenancy.ownership.stop()

    async def wait_idle(self) -> None:
        """Returns when no call is open."""
        await self._idle.wait()

    async def serve(
        self,
        exchange: Exchange,
        principal: Principal,
        handler: Handler[Any],
        argument: str | None,
    ) -> None:
        """Answer one call. Raises RelayError while nothing of the answer was sent."""
        endpoint = handler.endpoint
        if endpoint.body is BodyKind.JSON:
            limit = endpoint.body_limit_bytes or self._runtime.settings.body_limit_bytes
            request: CallRequest = handler.parse(await exchange.body(limit))
        else:
            request = await handler.read(exchange, argument)
        try:
            await self.serve_read(exchange, principal, handler, request)
        finally:
            if endpoint.body is BodyKind.MULTIPART:
                handler.close(request)

    async def serve_read(
        self,
        exchange: Exchange,
        principal: Principal,
        handler: Handler[Any],
        request: CallRequest,
    ) -> None:
        """Answer one call of which the request is here. Raises RelayError as `serve` does."""
        endpoint = handler.endpoint
        exchange.log["model"] = request.model
        exchange.log["stream"] = request.stream
        references = handler.references(request)
        pin = None
        if references:
            pin = await self._tenancy.ownership.channel_of(principal.organization_id, references)
        quote, candidates = self._offer(endpoint, request, principal, pin=pin)
        call = OpenCall(
            exchange=exchange,
            principal=principal,
            handler=handler,
            request=request,
            quote=quote,
            tenancy=self._tenancy,
        )
        self.open_calls.add(call)
        self._idle.clear()
        try:
            await self._run(call, candidates)
        except RelayError as error:
            _end(call, status=error.status)
            if not call.has_begun_early:
                raise
            await exchange.stream_fail(error, handler.failed_stream(request, error))
        except ClientLeft:
            _end(call, status=CLIENT_LEFT, outcome="client_left")
            raise
        finally:
            _end(call, status=INTERNAL_ERROR)
            self.open_calls.discard(call)
            if not self.open_calls:
                self._idle.set()
            call.leave()

    async def _run(self, call: OpenCall, candidates: list[ChannelRoute]) -> None:
        try:
            hold = await self._hold(call, candidates)
            if hold.free_tier:
                async with self._free_tier.admitted(hold, call.request.model):
                    await self._relay(call, candidates)
            else:
                await self._relay(call, candidates)
        except asyncio.CancelledError:
            if not call.was_cut():
                raise
        finally:
            call.beyond_cuts()
            if call.cut_reason == "deadline" and call.route is not None:
                self._runtime.sending.broke(call)  # It trickled, and was never done.
        if not call.exchange.status or call.has_begun_early:  # It was cut.
            raise call.unfinished() if call.was_sent else errors.server_draining()

    # --- Before it is sent -----------------------------------------------------------------------

    def _offer(
        self, endpoint: Endpoint, request: CallRequest, principal: Principal, *, pin: int | None
    ) -> tuple[Quote, list[ChannelRoute]]:
        """The price of the call and the channels that could serve it; no price, no call.

        `pin` is the channel on which what the request names lives.
        """
        catalog, model = self._runtime.catalog, request.model
        if catalog is None:
            raise errors.store_unavailable()
        if pin is not None and not model and endpoint.is_free:
            return FREE, self._pinned(pin)
        allowed = principal.allowed_models
        quote = catalog.quote(model, principal.organization_id)
        if quote is None or (allowed is not None and model not in allowed):
            raise errors.model_not_found(model)
        if not catalog.is_listed(model, endpoint.listed_as):
            raise errors.model_not_served(model, endpoint.name)
        candidates = self._runtime.channels.candidates(model)
        if not candidates:
            if self._runtime.channels.is_out_of_service(model):
                raise errors.upstream_unavailable()
            raise errors.model_not_found(model)
        tier = request.service_tier
        if tier is not None and (tier == BATCH_TIER or not quote.terms.prices_tier(tier)):
            raise InvalidRequest(
                f"Invalid value for 'service_tier': the model has no price for '{tier}'.",
                param="service_tier",
                code="unsupported_value",
            )
        return quote, candidates if pin is None else self._pinned(pin)

    def _pinned(self, channel_id: int) -> list[ChannelRoute]:
        routes = self._runtime.channels.routes_of(channel_id)
        if not routes:  # The operator has taken it out of service, for now or for ever.
            raise errors.upstream_unavailable()
        return routes

    async def _hold(self, call: OpenCall, candidates: list[ChannelRoute]) -> Hold:
        """Set aside what the call may cost; looked at more closely for who cannot pay it."""
        settings, engine = self._runtime.settings, self._runtime.engine
        seconds = settings.deadlines.total_seconds
        first = call.handler.reserve(
            call.request,
            call.quote,
            organization_id=call.principal.organization_id,
            policy=settings.hold_policy,
        )
        if self._runtime.limits.is_set:
            await call.admit(self._runtime.limits, first)
        try:
            return await call.open(engine, first, seconds=seconds)
        except InsufficientQuota as short:
            refusal = quota_refusal(short)
        key_id = call.principal.api_key_id
        now = asyncio.get_running_loop().time()
        if now < self._uncounted_until.get(key_id, 0):
            raise refusal
        await call.handler.gather(call.request)
        closer = call.handler.reserve_closely(
            call.request,
            call.quote,
            organization_id=call.principal.organization_id,
            policy=settings.hold_policy,
            upstream_models={route.upstream_model(call.request.model) for route in candidates},
        )
        if closer.reservation is not None:
            try:
                return await call.open(engine, closer.reservation, seconds=seconds)
            except InsufficientQuota as short:
                refusal = quota_refusal(short)
        if closer.was_dear:
            self._count_later(key_id, now + RECOUNT_SECONDS)
        raise refusal

    def _count_later(self, api_key_id: int, until: float) -> None:
        if len(self._uncounted_until) >= MAX_REMEMBERED:
            self._uncounted_until.clear()
        self._uncounted_until[api_key_id] = until

    # --- Sending ---------------------------------------------------------------------------------

    async def _relay(self, call: OpenCall, candidates: list[ChannelRoute]) -> None:
        sending = self._runtime.sending
        if call.request.stream:
            async with EarlyHead(call, pause_seconds=self._runtime.settings.keep_alive_seconds):
                response, attempt = await sending.send(call, candidates)
        else:
            response, attempt = await sending.send(call, candidates)
        well = False
        try:
            if response.status != OK:
                raise (await read_refusal(response)).error
            meter = call.handler.meter(call.request, response)
            if meter is None:
                if call.has_begun_early:  # A whole answer fits into no stream.
                    raise errors.upstream_failed()
                await _relay_body(call, response)
            else:
                call.handler.taken(call.request)
                stream = StreamRelay(call, response, meter=meter, runtime=self._runtime)
                await stream.run()
                if stream.broke:
                    sending.broke(call)
            well = response.has_ended
        except RelayError as refusal:
            if isinstance(refusal.__cause__, UpstreamError):
                sending.broke(call)
            raise
        finally:
            await response.close()
            if attempt is not None:
                sending.ended(attempt, response, well=well)


# --- Whole answers -------------------------------------------------------------------------------


async def _relay_body(call: OpenCall, response: UpstreamResponse) -> None:
    """Relay an answer that is not a stream: settled whole before any of it goes out."""
    try:
        body = await response.read_all(ANSWER_LIMIT_BYTES)
    except UpstreamError as error:
        raise from_failure(error) from error
    answer = call.handler.read_answer(call.request, body)
    if answer.kind != "completion":
        raise answer.error or errors.upstream_failed()
    call.upstream_id = answer.upstream_id or ""
    if answer.ids:
        call.hand_out(answer.ids)
    outcome = "client_left" if call.exchange.has_left() else "completed"
    call.settle(outcome, call.price(answer, produced=False), status=OK)
    if not call.is_kept:
        await call.kept()
    headers = client_headers(response.header)
    await call.exchange.answer(OK, headers, call.restored(answer.body or body))


def _end(call: OpenCall, *, status: int, outcome: str = "upstream_error") -> None:
    """Whatever happened: a call that is still open was not answered, and costs nothing."""
    if not call.is_open:
        return
    if not call.was_sent:
        call.release()
        return
    with suppress(RelayError):  # The answer is an error already.
        call.settle(outcome, NOTHING, status=status)
