"""Making a re-rating count: its calls are rated bit by bit, then each line's money moves at once.

Every bit is a transaction of its own that remembers how far it came. Whoever is killed leaves the
rest to the next, and nothing is done twice, however many do it at once: the wallet's lock lets one
of them work on a line, and the line says what is left to do.

Note [Down and up]: what became cheaper comes back as a grant, out of revenue. What became dearer is
taken from the wallet, as far as there is money: on the operator's word also as a debt of
organizations on standard holds. What strict ones have in leases is waited for; what is nowhere any
more is waived, and so the calls that it was for keep their earlier charge.
"""

import datetime as dt

from accounts.audit_trail import Actor, audit_event_record
from accounts.transactions import durable
from billing.credit.collecting import Demand, collect
from billing.credit.grants import MAX_REASON_LENGTH, Credit, grant_add, wallet_lock
from billing.models import Grant, LedgerEntry, ReratedCall, Rerating, ReratingLine
from billing.rerating.calls import AT_ONCE, Prices, call_batches, calls_in_range, standings
from billing.rerating.previewing import line_charge
from billing.rerating.rating import difference

Account = LedgerEntry.Account


def reratings_continue(*, actor: Actor, now: dt.datetime) -> bool:
    """Go on with what was decided, as far as that is possible now; False if something is left."""
    prices = Prices()
    for rerating in Rerating.objects.filter(state=Rerating.State.RUNNING):
        lines = rerating.lines.filter(settled_at__isnull=True).order_by("id")
        for line_id, organization_id in lines.values_list("pk", "organization_id"):
            while _calls_rate(line_id, organization_id, prices, now):
                pass
            _money_move(line_id, organization_id, actor, now)
        _end(rerating.pk, actor, now)
    return not Rerating.objects.filter(state=Rerating.State.RUNNING).exists()


@durable
def _calls_rate(line_id: int, organization_id: int, prices: Prices, now: dt.datetime) -> bool:
    """Rate the next of the line's calls; False when there are no more."""
    # Refunds of these calls, which bound what comes back, wait for this lock, too.
    wallet_lock(organization_id)
    line = _locked(line_id)
    if line.rated_at is not None:
        return False
    calls = calls_in_range(line.rerating).filter(organization_id=organization_id, model=line.model)
    batch = next(call_batches(calls, after=line.reached))
    stands = standings(batch)
    changes = []
    for call in batch:
        rated = line_charge(line.rerating, line, call, prices)
        change = 0 if rated is None else difference(rated, stands[call.request_id])
        if change:
            changes.append(
                ReratedCall(line=line, request_id=call.request_id, difference_nano_usd=change)
            )
    ReratedCall.objects.bulk_create(changes)
    line.changed_calls += len(changes)
    line.difference_nano_usd += sum(change.difference_nano_usd for change in changes)
    if len(batch) < AT_ONCE:
        line.rated_at = now
    if batch:
        line.reached = batch[-1].request_id
    line.save(update_fields=["changed_calls", "difference_nano_usd", "rated_at", "reached"])
    return line.rated_at is None


@durable
def _money_move(line_id: int, organization_id: int, actor: Actor, now: dt.datetime) -> None:
    """Settle the line, or as much of it as there is money for."""
    wallet_lock(organization_id)
    line = _locked(line_id)
    if line.settled_at is not None or line.rated_at is None:
        return
    if line.difference_nano_usd < 0:
        line.grant = _give_back(line, actor, now)
    elif line.difference_nano_usd > line.collected_nano_usd:
        _collect(line, now)
    if line.grant is None and (
        line.collected_nano_usd + line.waived_nano_usd < line.difference_nano_usd
    ):
        line.save(update_fields=["collected_nano_usd"])
        return
    line.settled_at = now
    line.save(update_fields=["grant", "collected_nano_usd", "waived_nano_usd", "settled_at"])
    _audit(line, actor)


def _give_back(line: ReratingLine, actor: Actor, now: dt.datetime) -> Grant:
    credit = Credit(
        organization_id=line.organization_id,
        amount_nano_usd=-line.difference_nano_usd,
        kind=Grant.Kind.ADJUSTMENT,
        reason=_reason(line),
        given_back=True,
        account=Account.REVENUE,
    )
    return grant_add(credit=credit, actor=actor, now=now)


def _collect(line: ReratingLine, now: dt.datetime) -> None:
    demand = Demand(
        organization_id=line.organization_id,
        amount_nano_usd=line.difference_nano_usd - line.collected_nano_usd,
        account=Account.REVENUE,
        part="burnt",
        reason="rerating",
        may_owe=line.rerating.may_owe,
    )
    taken = collect(demand, now=now)
    line.collected_nano_usd += taken.collected_nano_usd
    line.waived_nano_usd = taken.hopeless_nano_usd
    _waive(line, taken.hopeless_nano_usd)


def _waive(line: ReratingLine, amount_nano_usd: int) -> None:
    """Let the last calls that became dearer keep so much of their earlier charge."""
    dearer = line.changed.filter(difference_nano_usd__gt=0).order_by("-id")
    for change in dearer.iterator(AT_ONCE):
        if not amount_nano_usd:
            return
        part = min(amount_nano_usd, change.difference_nano_usd)
        amount_nano_usd -= part
        if part == change.difference_nano_usd:
            change.delete()
        else:
            change.difference_nano_usd -= part
            change.save(update_fields=["difference_nano_usd"])


@durable
def _end(rerating_id: int, actor: Actor, now: dt.datetime) -> None:
    rerating = Rerating.objects.select_for_update().get(pk=rerating_id)
    is_over = not rerating.lines.filter(settled_at__isnull=True).exists()
    if rerating.state != Rerating.State.RUNNING or not is_over:
        return
    rerating.state, rerating.ended_at = Rerating.State.DONE, now
    rerating.save(update_fields=["state", "ended_at"])
    audit_event_record(
        actor=actor,
        action="rerating.done",
        subject=str(rerating),
        organization=rerating.organization,
        details={"rerating": rerating.pk},
    )


def _locked(line_id: int) -> ReratingLine:
    lines = ReratingLine.objects.select_for_update(of=("self",))
    return lines.select_related("rerating", "organization").get(pk=line_id)


def _reason(line: ReratingLine) -> str:
    rerating = line.rerating
    days = f"{rerating.first_day} to {rerating.last_day}"
    why = f": {rerating.reason}" if rerating.reason else ""
    return f"{rerating}: {line.model}, {days}{why}"[:MAX_REASON_LENGTH]


def _audit(line: ReratingLine, actor: Actor) -> None:
    audit_event_record(
        actor=actor,
        action="rerating.settle",
        subject=_reason(line),
        organization=line.organization,
        details={
            "rerating": line.rerating_id,
            "calls": line.changed_calls,
            "difference_nano_usd": line.difference_nano_usd,
            "collected_nano_usd": line.collected_nano_usd,
            "waived_nano_usd": line.waived_nano_usd,
        },
    )
