"""Sending a call: to one channel after another, as long as none took it."""

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import msgspec

from relay import errors
from relay.calls import OpenCall
from relay.channels.table import ChannelRoute
from relay.errors import RelayError
from relay.headers import upstream_headers
from relay.routing.decision import sticky_key
from relay.routing.refusals import Refusals
from relay.routing.traffic import Attempt, Traffic
from relay.upstream import (
    Deadlines,
    RequestRefused,
    Upstream,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
)
from relay.upstream_errors import from_failure, from_upstream

PROBE_DEADLINES = Deadlines(
    connect_seconds=2.0, first_byte_seconds=3.0, idle_seconds=3.0, total_seconds=5.0
)
ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
ERROR_LIMIT_BYTES = 1024 * 1024
OK, INTERNAL_ERROR = 200, 500
# Upstream says with these that it did not take the call, so another channel may.
NOT_TAKEN = frozenset({401, 403, 429, 503})
UNAUTHORIZED, FORBIDDEN = 401, 403
# A 403 may be about one model or one prompt, which customers choose; these are about the account.
_ACCOUNT_CODES = frozenset({"account_deactivated", "invalid_api_key", "ip_not_authorized"})
# An account without money stays so for longer than a limit by the minute.
NO_MONEY, NO_MONEY_SECONDS = "insufficient_quota", 60.0


class ChannelTraffic(Traffic[ChannelRoute]):
    """By the clock of event loops, and real chance; it is made before there is a loop."""

    def __init__(self) -> None:
        super().__init__(clock=time.monotonic, chance=random.random)


class Refusal(NamedTuple):
    """An answer that is no success."""

    error: RelayError
    code: object
    retry_after: float | None


class Sending:
    def __init__(
        self,
        *,
        engine: Upstream,
        other_engine: Upstream,
        traffic: ChannelTraffic,
        refusals: Refusals,
        deadlines: Deadlines,
    ) -> None:
        """`other_engine` serves the channels with a proxy or HTTP/2."""
        self._engine = engine
        self._other_engine = other_engine
        self._traffic = traffic
        self._refusals = refusals
        self._deadlines = deadlines

    async def send(
        self, call: OpenCall, candidates: Sequence[ChannelRoute]
    ) -> tuple[UpstreamResponse, Attempt[ChannelRoute] | None]:
        """The first answer of a channel that took the call. Raises RelayError.

        Who gets it tells `ended` when it is over.
        """
        tried: set[int] = set()
        refusal: RelayError | None = None
        cap, model = call.output_cap(), call.request.model
        sticky = partial(_sticky, call) if len(candidates) > 1 else None
        while True:
            decision = self._traffic.choose(candidates, model=model, tried=tried, sticky=sticky)
            if decision is None:
                raise refusal or errors.upstream_unavailable()
            route = decision.candidate
            tried.add(route.credential_id)
            call.sent_to(route, decision.reason)
            call.exchange.log["route"] = decision.reason
            attempt = self._traffic.begin(route, model)
            try:
                response = await self._engine_of(route).send(self._request(call, route, cap))
                call.first_byte_ms = call.exchange.elapsed_ms()
                if response.status == OK:
                    return response, attempt
                refused = await self._refused(call, route, response)
                if refused is None:
                    return response, attempt
                refusal, what = refused.error, str(response.status)
                is_final = not call.handler.can_send_again(call.request)
            except UpstreamError as error:
                refusal, what, is_final = from_failure(error), type(error).__name__, False
                call.attempt_failed("unanswered" if error.sent else "unreachable")
                if error.sent:
                    self._traffic.channel_failed(route, costly=True)
                    raise refusal from error
                if not isinstance(error, RequestRefused):
                    self._traffic.channel_failed(route, costly=False)
                tried.update(c.credential_id for c in candidates if c.id == route.id)
            except BaseException:
                self._over(attempt)
                raise
            self._over(attempt)
            failures = call.exchange.log.setdefault("attempts", [])
            failures.append(f"{route.name}/{route.credential}: {what}")
            if is_final:
                raise refusal

    def ended(
        self, attempt: Attempt[ChannelRoute], response: UpstreamResponse, *, well: bool
    ) -> None:
        """The answer is over; `well` if it was complete, else there is no verdict."""
        if well and response.status < INTERNAL_ERROR:
            self._traffic.succeeded(attempt)
        self._traffic.end(attempt)

    def broke(self, call: OpenCall) -> None:
        """The answer that a customer waited for was cut by upstream, or never came to its end."""
        assert call.route is not None, "it was sent"
        self._traffic.channel_failed(call.route, costly=True)

    def to_probe(self, routes: Sequence[ChannelRoute]) -> list[ChannelRoute]:
        return self._traffic.to_probe(routes)

    async def probe(self, route: ChannelRoute) -> None:
        """Ask for the list of models, as nobody's call, and go by what comes of it."""
        attempt = self._traffic.probe(route)
        try:
            models = question(route, route.target(b"/models", ""), PROBE_DEADLINES)
            async with await self._engine_of(route).send(models) as response:
                await response.read_all(ANSWER_LIMIT_BYTES)
                if response.status < INTERNAL_ERROR:
                    self._traffic.succeeded(attempt)
                else:
                    self._traffic.channel_failed(route, costly=True)
        except UpstreamError:
            self._traffic.channel_failed(route, costly=True)
        finally:
            self._traffic.end(attempt)

    def _over(self, attempt: Attempt[ChannelRoute] | None) -> None:
        if attempt is not None:
            self._traffic.end(attempt)

    def _engine_of(self, route: ChannelRoute) -> Upstream:
        return self._other_engine if route.proxy or route.http2 else self._engine

    async def _refused(
        self, call: OpenCall, route: ChannelRoute, response: UpstreamResponse
    ) -> Refusal | None:
        """What to make of an error; None: the call was taken, and this is its answer."""
        status, model = response.status, call.request.model
        if status not in NOT_TAKEN:
            if status >= INTERNAL_ERROR:
                self._traffic.credential_limited(route, model, None)
                call.attempt_failed("failed", status=status)
            return None
        refusal = await read_refusal(response)
        await response.close()
        call.attempt_failed("refused", status=status)
        if refuses_credential(status, refusal.code):
            self._traffic.credential_refused(route)
            self._refusals.note(route, f"{status} {refusal.code or ''}".strip())
        elif status != FORBIDDEN:
            no_money = NO_MONEY_SECONDS if refusal.code == NO_MONEY else None
            self._traffic.credential_limited(route, model, refusal.retry_after or no_money)
        return refusal

    def _request(self, call: OpenCall, route: ChannelRoute, cap: int | None) -> UpstreamRequest:
        request, handler = call.request, call.handler
        namespaced = request.namespaced
        if namespaced:
            namespaced = call.namespace.inside(namespaced)
        patience, deadlines = route.patience, self._deadlines
        return UpstreamRequest(
            destination=route.destination,
            method=call.endpoint.method.encode(),
            target=route.target(handler.target(request), request.model),
            headers=upstream_headers(
                call.exchange.headers,
                host=route.destination.authority,
                authorization=route.authorization,
                content_type=handler.content_type(request),
                authorization_name=route.authorization_header,
                extra=route.headers,
            ),
            body=handler.upstream_body(
                request,
                quote=call.quote,
                upstream_model=route.upstream_model(request.model),
                output_cap=cap,
                namespaced=namespaced,
            ),
            deadlines=deadlines if patience is None else patience.over(deadlines),
            proxy=route.proxy,
            http2=route.http2,
        )


def refuses_credential(status: int, code: object) -> bool:
    """Whether upstream does not know the credential any more, whatever is asked with it."""
    return status == UNAUTHORIZED or (status == FORBIDDEN and code in _ACCOUNT_CODES)


def question(route: ChannelRoute, target: bytes, deadlines: Deadlines) -> UpstreamRequest:
    """A GET of our own, as nobody's call."""
    return UpstreamRequest(
        destination=route.destination,
        method=b"GET",
        target=target,
        headers=upstream_headers(
            (),
            host=route.destination.authority,
            authorization=route.authorization,
            authorization_name=route.authorization_header,
            extra=route.headers,
        ),
        deadlines=deadlines,
        proxy=route.proxy,
        http2=route.http2,
    )


async def read_refusal(response: UpstreamResponse) -> Refusal:
    """Read an answer that is no success."""
    document: Any = None
    with suppress(UpstreamError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = msgspec.json.decode(await response.read_all(ERROR_LIMIT_BYTES))
    error = document.get("error") if isinstance(document, dict) else None
    seconds = _retry_after(response)
    return Refusal(
        error=from_upstream(response.status, error, retry_after_seconds=seconds),
        code=error.get("code") if isinstance(error, dict) else None,
        retry_after=seconds,
    )


def _retry_after(response: UpstreamResponse) -> float | None:
    with suppress(ValueError):
        return float(response.header(b"retry-after") or b"")
    return None


def _sticky(call: OpenCall) -> bytes | None:
    """Only whole JSON bodies have a beginning worth caching."""
    return sticky_key(
        call.principal.organization_id,
        prompt_cache_key=call.request.namespaced.get("prompt_cache_key"),
        body=getattr(call.request, "body", b""),
    )
