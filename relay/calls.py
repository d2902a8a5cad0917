"""An admitted call: its hold, its record, its end. However it ends, it ends exactly once."""

import asyncio
import sys
import time
from collections.abc import Iterable
from typing import Any

from accounts.directory import Principal
from billing.engine import (
    Attempt,
    Call,
    DeadlinePassed,
    EngineUnavailable,
    Hold,
    HoldState,
    JournalFailed,
    MoneyEngine,
    Outcome,
    fitting,
)
from billing.prices.catalog import Quote
from relay import errors
from relay.channels.table import ChannelRoute
from relay.endpoints.base import CallRequest, Handler, Reservation
from relay.endpoints.table import BodyKind
from relay.errors import RelayError
from relay.exchange import Exchange
from relay.far_timers import Timer, far_timers
from relay.limits.limiter import Permit, RateLimits
from relay.metering.settlement import NOTHING, Price, Reading, price
from relay.tenancy import Tenancy
from relay.tenancy.namespaces import Namespace

MAX_NAME = 200
MAX_UPSTREAM_ID = 100
# Where money for a growing hold is short, it is asked for again after so much more output.
RETRY_CHARACTERS = 256


class OpenCall:
    __slots__ = (
        "_deadline",
        "_engine",
        "_failed",
        "_held_for_output",
        "_hold",
        "_is_pending",
        "_permit",
        "_reason",
        "_reservation",
        "_sent_ms",
        "_task",
        "_tenancy",
        "_used_tokens",
        "client_left",
        "covered_characters",
        "cut_reason",
        "endpoint",
        "exchange",
        "first_byte_ms",
        "first_token_ms",
        "handler",
        "has_begun_early",
        "principal",
        "quote",
        "request",
        "route",
        "upstream_id",
    )

    def __init__(
        self,
        *,
        exchange: Exchange,
        principal: Principal,
        handler: Handler[Any],
        request: CallRequest,
        quote: Quote,
        tenancy: Tenancy,
    ) -> None:
        self.exchange = exchange
        self.principal = principal
        self.endpoint = handler.endpoint
        self.handler = handler
        self.request = request
        self.quote = quote
        self._tenancy = tenancy
        self.covered_characters = sys.maxsize  # The hold covers so much of streamed output.
        self.route: ChannelRoute | None = None
        self._reason = ""  # Why it takes that way.
        self._failed: tuple[Attempt, ...] = ()  # Its attempts that came to nothing.
        self._is_pending = True  # The last one has not failed.
        self._sent_ms = 0
        self.first_byte_ms: int | None = None
        self.first_token_ms: int | None = None  # Of streams.
        self.upstream_id = ""
        self.client_left = False
        self.has_begun_early = False
        """The client has the head of an event stream, and nothing of upstream's yet."""
        self.cut_reason: str | None = None
        self._permit: Permit | None = None  # Of the rate limits, where there are any.
        self._used_tokens = 0
        self._reservation: Reservation | None = None
        self._held_for_output: int | None = None
        self._hold: Hold | None = None
        self._engine: MoneyEngine | None = None
        self._task = asyncio.current_task()
        self._deadline: Timer | None = None

    async def admit(self, limits: RateLimits, reservation: Reservation) -> None:
        """Take what the rate limits have for it. Raises RelayError."""
        self._permit = await limits.admit(
            self.principal, self.request.model, tokens=reservation.usual_tokens
        )
        if self._permit is not None:
            self.exchange.limit_headers = self._permit.headers

    def leave(self) -> None:
        """It has ended, whatever way: what it took of the rate limits and did not use is free."""
        if self._permit is not None:
            self._permit.release(self._used_tokens)

    async def open(self, engine: MoneyEngine, reservation: Reservation, *, seconds: float) -> Hold:
        """Set the money aside, for a call that is cut after so many seconds.

        Raises InsufficientQuota, RelayError.
        """
        self._engine, self._reservation = engine, reservation
        caller, request = self.principal, reservation.hold
        bounds = engine.limits.organizations.get(caller.organization_id)
        project_id, family_id = caller.project_id, caller.api_key_family_id
        limits = None if bounds is None else bounds.of(project_id, family_id)
        try:
            hold = engine.hold_now(request, limits) or await engine.hold_open(request, limits)
        except EngineUnavailable:
            raise errors.store_unavailable() from None
        self._hold = hold
        if not hold.strict:
            self.covered_characters = reservation.covered_characters
        timers = far_timers(asyncio.get_running_loop())
        self._deadline = timers.call_later(seconds, self._deadline_passed)
        return hold

    def output_cap(self) -> int | None:
        """How long each answer may be for the money that is held; None: as long as it likes."""
        assert self._reservation is not None, "the call was not opened"
        assert self._hold is not None, "the call has no hold"
        return self._reservation.output_cap(
            amount_nano_usd=self._hold.amount_nano_usd, strict=self._hold.strict
        )

    def cover(self, characters: int) -> None:
        """Let a standard hold grow with the output, as far as there is money at hand."""
        assert self._engine is not None, "the call was not opened"
        assert self._hold is not None, "the call has no hold"
        assert self._reservation is not None, "the call was not opened"
        cost = self._reservation.output_cost
        if self._held_for_output is None:
            self._held_for_output = cost(self.covered_characters)
        target = characters + self._reservation.step_characters
        wanted = cost(target) - self._held_for_output
        if wanted <= 0:
            self.covered_characters = sys.maxsize  # The hold covers all that may come.
            return
        got = self._engine.hold_extend(self._hold, wanted)
        self._held_for_output += got
        self.covered_characters = target if got == wanted else characters + RETRY_CHARACTERS

    def sent_to(self, route: ChannelRoute, reason: str) -> None:
        """Write down that the call goes to this channel and why, before anything is sent.

        Raises RelayError.
        """
        assert self._engine is not None, "the call was not opened"
        assert self._hold is not None, "the call has no hold"
        first, self.route, self._reason = self.route is None, route, reason
        call = self._facts(route)
        if not first:
            self._is_pending, self._sent_ms = True, self.exchange.elapsed_ms()
            self._engine.call_rerouted(self._hold, call)
            return
        try:
            self._engine.call_opened(self._hold, call)
        except JournalFailed:
            raise errors.store_unavailable() from None

    def _facts(self, route: ChannelRoute) -> Call:
        retries = self.exchange.header(b"x-stainless-retry-count") or b""
        return Call(
            request_id=self.exchange.id,
            organization_id=self.principal.organization_id,
            project_id=self.principal.project_id,
            api_key_id=self.principal.api_key_id,
            api_key_prefix=self.principal.api_key_prefix,
            endpoint=self.endpoint.name,
            model=self.request.model[:MAX_NAME],
            upstream_model=route.upstream_model(self.request.model)[:MAX_NAME],
            channel=route.name,
            stream=self.request.stream,
            price_id=self.quote.terms.price_id,
            discount_ppm=self.quote.discount_ppm,
            retry_count=min(int(retries), 1000) if retries.isdigit() else 0,
            opened_at=time.time(),
            credential=route.credential,
            route_reason=self._reason,
        )

    def attempt_failed(self, what: str, *, status: int = 0) -> None:
        """The channel that it was sent to gave no answer that its client could have."""
        self._failed = (*self._failed, self._attempt(what, status=status))
        self._is_pending = False

    def _attempt(self, what: str, *, status: int, cost_nano_usd: int = 0) -> Attempt:
        assert self.route is not None, "it was sent"
        return Attempt(
            channel=self.route.name,
            credential=self.route.credential,
            reason=self._reason,
            outcome=what,
            status=status,
            duration_ms=self.exchange.elapsed_ms() - self._sent_ms,
            upstream_cost_nano_usd=cost_nano_usd,
        )

    def _attempts(self, outcome: str, price: Price, *, status: int) -> tuple[Attempt, ...]:
        """All of them, the one that answered, if any, at last."""
        attempts, cost = self._failed, price.upstream_cost_nano_usd
        if self._is_pending:
            attempts += (self._attempt(outcome, status=status, cost_nano_usd=cost),)
        return fitting(attempts)

    # --- What upstream keeps, and what it must not see --------------------------------------------

    def hand_out(self, ids: Iterable[str]) -> None:
        """The client is about to get these, and may name them later."""
        assert self.route is not None, "nothing is handed out before it was sent"
        self._tenancy.ownership.remember(self.principal.organization_id, self.route.id, ids)

    @property
    def namespace(self) -> Namespace:
        return self._tenancy.namespaces.of(self.principal.organization_id)

    @property
    def is_restored(self) -> bool:
        """Whether the answer repeats values that upstream has seen in the namespace only."""
        return self.endpoint.echoes and bool(
            self.request.namespaced or self.endpoint.body is BodyKind.NONE
        )

    def restored(self, data: bytes) -> bytes:
        """What upstream says, with the client's own values."""
        if not self.is_restored:
            return data
        return self.namespace.restored(data, self.request.namespaced)

    # --- Its end ---------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._hold is not None and self._hold.state is HoldState.OPEN

    def settle(self, outcome: str, price: Price, *, status: int) -> None:
        """Write down the end of the call, before the last byte of its reply goes out.

        Raises RelayError where nothing could be written: then the reply must be cut.
        """
        assert self._engine is not None, "the call was not opened"
        assert self._hold is not None, "the call has no hold"
        usage = price.usage
        record = Outcome(
            status=status,
            outcome=outcome,
            usage_source=price.usage_source,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            units=usage.units(),
            service_tier=price.service_tier,
            official_cost_nano_usd=price.official_cost_nano_usd,
            upstream_cost_nano_usd=price.upstream_cost_nano_usd,
            upstream_request_id=self.upstream_id[:MAX_UPSTREAM_ID],
            first_byte_ms=self.first_byte_ms,
            first_token_ms=self.first_token_ms,
            duration_ms=self.exchange.elapsed_ms(),
            flags=price.flags,
            attempts=self._attempts(outcome, price, status=status) if self._failed else (),
        )
        self._used_tokens = usage.prompt_tokens + usage.completion_tokens
        log = self.exchange.log
        log["outcome"] = outcome
        try:
            log["charge_nano_usd"] = self._engine.call_settle(
                self._hold, record, price.cost_nano_usd
            )
        except DeadlinePassed:
            log["outcome"] = "expired"
            raise errors.upstream_timeout() from None
        except JournalFailed:
            log["outcome"] = "unrecorded"
            raise errors.internal(retry=False) from None
        log["prompt_tokens"] = usage.prompt_tokens
        log["completion_tokens"] = usage.completion_tokens
        log["usage_source"] = price.usage_source
        if price.flags:
            log["flags"] = price.flags

    @property
    def is_kept(self) -> bool:
        """Whether its record is as safe as the operator demands: mostly that it is written."""
        assert self._hold is not None, "the call has no hold"
        return self._hold.kept is None

    async def kept(self) -> None:
        """Wait until the record is as safe as the operator demands, before the last byte goes out.

        Raises RelayError: the reply must be cut, though the call is recorded.
        """
        assert self._engine is not None, "the call was not opened"
        assert self._hold is not None, "the call has no hold"
        try:
            await self._engine.kept(self._hold)
        except JournalFailed:
            raise errors.internal(retry=False) from None

    def price(self, reading: Reading, *, produced: bool) -> Price:
        """`produced`: upstream has worked for the call, though nothing of it may be seen."""
        assert self.route is not None, "a call is priced after it was sent"
        if self.endpoint.is_free:
            return NOTHING
        measure = self.handler.measure(self.request, reading, self.quote, produced=produced)
        return price(
            measure,
            self.quote,
            served_tier=reading.served_tier,
            cost_ppm=self.route.cost_ppm,
        )

    def unfinished(self) -> RelayError:
        """What the client is told where the call was sent and did not come to its end."""
        if self.cut_reason == "draining":
            return errors.server_stopped()
        took_too_long = self.cut_reason == "deadline"
        return errors.upstream_timeout() if took_too_long else errors.upstream_failed()

    def release(self) -> None:
        """Nothing was sent upstream: give the money back, without a record."""
        assert self._engine is not None, "the call was not opened"
        assert self._hold is not None, "the call has no hold"
        self._engine.hold_release(self._hold)

    @property
    def was_sent(self) -> bool:
        return self._hold is not None and self._hold.call is not None

    # --- Cutting a call that runs ----------------------------------------------------------------

    def cut(self, reason: str) -> None:
        """End it from outside: because its client left, or because the server stops."""
        if self.cut_reason is None and self._task is not None:
            self.cut_reason = reason
            self._task.cancel()

    def _deadline_passed(self) -> None:
        self.cut("deadline")

    def was_cut(self) -> bool:
        """Whether the cancellation that has just come was ours: then it ends here."""
        if not self.cut_reason or self._task is None:
            return False
        self._task.uncancel()
        self._task = None  # Another one would not be ours.
        return True

    def beyond_cuts(self) -> None:
        """What follows must not be cut any more."""
        self.cut_reason = self.cut_reason or ""
        if self._deadline is not None:
            self._deadline.cancel()
