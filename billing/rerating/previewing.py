"""What a re-rating would change, per organization and model; and the decision about it."""

import datetime as dt
from dataclasses import dataclass

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.models import Organization
from accounts.transactions import durable
from billing.models import Price, Rerating, ReratingLine
from billing.money import MAX_DISCOUNT_PPM, format_usd
from billing.prices.discounts import discount_ppm_now
from billing.prices.periods import present_and_future
from billing.prices.services import price_require
from billing.rerating.calls import Prices, call_batches, calls_in_range, standings
from billing.rerating.rating import RecordedCall, Standing, difference, rated_charge

# Whoever has to correct more does it month by month, or model by model.
MAX_CALLS = 1_000_000
MAX_REASON_LENGTH = 300
State, Terms = Rerating.State, Rerating.Terms


class UnableToRerate(Refused):
    """There is nothing to re-rate, it makes no sense, or it was decided already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerateTerms:
    """Which calls, and on what terms; see `Rerating`."""

    first_day: dt.date
    last_day: dt.date
    organization: Organization | None = None
    model: str = ""
    prices: str = Terms.NOW
    discounts: str = Terms.THEN
    discount_ppm: int | None = None
    may_owe: bool = False
    reason: str = ""


@durable
def rerating_open(*, terms: RerateTerms, actor: Actor, now: dt.datetime) -> Rerating:
    """Compute what would change, and keep it. No money moves. Raises UnableToRerate."""
    _terms_check(terms, now)
    rerating = Rerating(
        first_day=terms.first_day,
        last_day=terms.last_day,
        organization=terms.organization,
        model=terms.model,
        prices=terms.prices,
        discounts=terms.discounts,
        discount_ppm=terms.discount_ppm,
        may_owe=terms.may_owe,
        reason=terms.reason,
        created_at=now,
    )
    calls = calls_in_range(rerating)
    if calls.count() > MAX_CALLS:
        raise UnableToRerate(f"These are more than {MAX_CALLS:,} calls: take fewer days.")
    preview = _Preview(rerating, now)
    for batch in call_batches(calls):
        stands = standings(batch)
        for call in batch:
            preview.add(call, stands[call.request_id])
    if not preview.lines:
        raise UnableToRerate("No calls were charged there.")
    rerating.save()
    ReratingLine.objects.bulk_create(preview.lines.values())
    audit_event_record(
        actor=actor,
        action="rerating.open",
        subject=f"{rerating}: {terms.first_day} to {terms.last_day}",
        organization=terms.organization,
        details={"lines": len(preview.lines), "model": terms.model, "reason": terms.reason},
    )
    return rerating


@durable
def rerating_apply(*, rerating_id: int, actor: Actor, now: dt.datetime) -> Rerating:
    """Decide that it counts; what moves the money (billing.rerating.applying) begins after that.

    Raises UnableToRerate, also where another one has changed the same days since the preview.
    """
    rerating = _decidable(rerating_id)
    others = Rerating.objects.exclude(pk=rerating.pk)
    if others.filter(state=State.RUNNING).exists():
        raise UnableToRerate("Another re-rating is under way: wait until it is done.")
    later = others.filter(ended_at__gte=rerating.created_at, state=State.DONE)
    if later.filter(first_day__lte=rerating.last_day, last_day__gte=rerating.first_day).exists():
        raise UnableToRerate("Another one has changed these days since: preview it anew.")
    rerating.state, rerating.decided_at = State.RUNNING, now
    rerating.save(update_fields=["state", "decided_at"])
    _audit(rerating, "rerating.apply", actor)
    return rerating


@durable
def rerating_drop(*, rerating_id: int, actor: Actor, now: dt.datetime) -> None:
    rerating = _decidable(rerating_id)
    rerating.state, rerating.decided_at, rerating.ended_at = State.DROPPED, now, now
    rerating.save(update_fields=["state", "decided_at", "ended_at"])
    _audit(rerating, "rerating.drop", actor)


class _Preview:
    """The lines as they come together, call by call."""

    def __init__(self, rerating: Rerating, now: dt.datetime) -> None:
        self.lines: dict[tuple[int, str], ReratingLine] = {}
        self._rerating = rerating
        self._now = now
        self._prices = Prices()

    def add(self, call: RecordedCall, standing: Standing) -> None:
        line = self._line(call)
        line.calls += 1
        line.charged_nano_usd += standing.charge_nano_usd
        line.rated_nano_usd += standing.charge_nano_usd
        rated = line_charge(self._rerating, line, call, self._prices)
        if rated is None:
            line.unratable_calls += 1
        else:
            line.rated_nano_usd += difference(rated, standing)

    def _line(self, call: RecordedCall) -> ReratingLine:
        key = call.organization_id, call.model
        if key not in self.lines:
            self.lines[key] = ReratingLine(
                rerating=self._rerating,
                organization_id=call.organization_id,
                model=call.model,
                price=self._price(call.model),
                discount_ppm=self._discount_ppm(*key),
                calls=0,
                unratable_calls=0,
                charged_nano_usd=0,
                rated_nano_usd=0,
            )
        return self.lines[key]

    def _price(self, model: str) -> Price | None:
        if self._rerating.prices == Terms.THEN:
            return None
        rows = present_and_future(Price.objects.filter(model=model), self._now)
        return rows.filter(effective_from__lte=self._now).first()

    def _discount_ppm(self, organization_id: int, model: str) -> int | None:
        if self._rerating.discounts == Terms.NOW:
            return discount_ppm_now(organization_id, model, now=self._now)
        return self._rerating.discount_ppm


def line_charge(
    rerating: Rerating, line: ReratingLine, call: RecordedCall, prices: Prices
) -> int | None:
    """What the call costs on the line's terms; None where it cannot be told, so nothing changes."""
    before = prices.terms(call.price_id)
    if rerating.prices == Terms.THEN:
        after = before
    else:  # A model that is no longer sold has no price of now.
        after = None if line.price_id is None else prices.terms(line.price_id)
    if before is None or after is None:
        return None
    discount = call.discount_ppm if line.discount_ppm is None else line.discount_ppm
    return rated_charge(call, before=before, after=after, discount_ppm=discount)


def _terms_check(terms: RerateTerms, now: dt.datetime) -> None:
    if not terms.first_day <= terms.last_day:
        raise UnableToRerate("The first day is after the last one.")
    if terms.last_day >= now.astimezone(dt.UTC).date():
        raise UnableToRerate("The last day has to be over (in UTC): its calls are not all in yet.")
    if (terms.prices, terms.discounts) == (Terms.THEN, Terms.THEN):
        raise UnableToRerate("The prices and the discounts of then are what was charged.")
    given = terms.discount_ppm
    if (terms.discounts == Terms.GIVEN) != (given is not None):
        raise UnableToRerate("A given discount is a fraction, and no other has one.")
    if given is not None and not 0 < given <= MAX_DISCOUNT_PPM:
        raise UnableToRerate("A discount is a fraction to pay, above 0 and at most 100.")
    if len(terms.reason) > MAX_REASON_LENGTH:
        raise UnableToRerate(f"A reason is at most {MAX_REASON_LENGTH} characters long.")
    if terms.model:
        price_require(terms.model)


def _decidable(rerating_id: int) -> Rerating:
    # Two decisions, also about two of them, take turns.
    waiting = {one.pk: one for one in Rerating.objects.select_for_update().filter(state="waiting")}
    rerating = waiting.get(rerating_id)
    if rerating is None:
        found = Rerating.objects.filter(pk=rerating_id).first()
        if found is None:
            raise UnableToRerate(f"There is no re-rating {rerating_id}.")
        raise UnableToRerate(f"The re-rating {rerating_id} was decided: it is {found.state}.")
    return rerating


def _audit(rerating: Rerating, action: str, actor: Actor) -> None:
    lines = list(rerating.lines.all())
    total = sum(line.preview_difference_nano_usd for line in lines)
    audit_event_record(
        actor=actor,
        action=action,
        subject=f"{rerating} of {format_usd(total)} USD",
        organization=rerating.organization,
        details={"rerating": rerating.pk, "calls": sum(line.calls for line in lines)},
    )
