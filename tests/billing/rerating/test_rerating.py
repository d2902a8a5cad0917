"""Correcting what past calls were charged: previewed, applied once, never beyond what there is."""

import datetime as dt
import uuid
from typing import Any

import pytest
from django.core.management import CommandError
from django.db.models import F, Sum

from accounts.models import AuditEvent, Organization
from billing.audit import audit
from billing.credit.balance import balance_nano_usd
from billing.credit.refunds import UnableToRefund, charge_refund
from billing.models import (
    Grant,
    LedgerEntry,
    Price,
    ReratedCall,
    Rerating,
    ReratingLine,
    UsageRecord,
    Wallet,
)
from billing.prices.discounts import discount_set
from billing.prices.services import price_set
from billing.rerating import (
    RerateTerms,
    UnableToRerate,
    calls,
    charge_now,
    rerating_apply,
    rerating_open,
    reratings_continue,
)
from tests.commands import ask, say
from tests.committing import run_together
from tests.factories import (
    ACTOR,
    make_grant,
    make_lease,
    make_organization,
    make_usage_record,
    now,
)

MODEL = "tested"
THAT_DAY = dt.datetime(2026, 11, 3, 12, tzinfo=dt.UTC)
DAY = THAT_DAY.date()
FORTY = 40_000_000  # 1,000 tokens in and out at 10 and 30 USD per 1M.
PAID = FORTY // 2


def price(input_usd: str, output_usd: str) -> Price:
    return price_set(
        model=MODEL,
        input_usd=input_usd,
        output_usd=output_usd,
        sure=True,
        actor=ACTOR,
        now=now(),
    )


def make_call(organization: Organization, price: Price, **fields: Any) -> UsageRecord:
    """A call of 1,000 tokens in and out, charged half of what the price says."""
    values = {"at": THAT_DAY, "model": MODEL, "price_id": price.pk, **fields}
    return make_usage_record(organization, **values)


def preview(**terms: Any) -> Rerating:
    return rerating_open(
        terms=RerateTerms(**{"first_day": DAY, "last_day": DAY, **terms}), actor=ACTOR, now=now()
    )


def apply(rerating: Rerating) -> Rerating:
    rerating_apply(rerating_id=rerating.pk, actor=ACTOR, now=now())
    reratings_continue(actor=ACTOR, now=now())
    rerating.refresh_from_db()
    return rerating


def standing_of(record: UsageRecord) -> int:
    return charge_now(record)


BEFORE = {
    # The calls of these tests have no leases, so that the audit finds what they spent missing.
    "a lease has spent the sum of its usage records",
    "a wallet's balance is the sum of its entries",
}


def assert_books_are_right() -> None:
    assert {finding.invariant for finding in audit(retain_seconds=0)} <= BEFORE


@pytest.fixture
def old(committing_db: str) -> Price:
    """What every call was charged by; since then everything costs half."""
    first = price("10", "30")
    price("5", "15")
    return first


@pytest.fixture
def acme(old: Price) -> Organization:
    return make_organization("acme", balance_nano_usd=10**9)


def test_a_price_that_was_too_high_is_given_back(acme: Organization, old: Price) -> None:
    records = [make_call(acme, old) for _ in range(3)]
    earlier = make_call(acme, old, at=THAT_DAY - dt.timedelta(days=1))
    rerating = preview(reason="the list said 5")
    [line] = rerating.lines.all()
    assert (line.calls, line.charged_nano_usd, line.rated_nano_usd) == (3, 3 * PAID, 3 * PAID // 2)
    assert balance_nano_usd(acme.pk) == 10**9
    assert not ReratedCall.objects.exists()

    assert apply(rerating).state == "done"
    assert balance_nano_usd(acme.pk) == 10**9 + 3 * PAID // 2
    grant = Grant.objects.get(kind="adjustment")
    assert grant.reason == f"{rerating}: tested, 2026-11-03 to 2026-11-03: the list said 5"
    legs = LedgerEntry.objects.filter(grant_id=grant.pk).order_by("sequence")
    assert [(leg.account, leg.amount_nano_usd) for leg in legs] == [
        ("revenue", -grant.amount_nano_usd),
        ("wallet", grant.amount_nano_usd),
    ]
    assert {standing_of(record) for record in records} == {PAID // 2}
    assert standing_of(earlier) == PAID
    assert {event.actor_label for event in AuditEvent.objects.filter(action__startswith="rerat")}
    assert set(AuditEvent.objects.values_list("action", flat=True)) >= {
        "rerating.open",
        "rerating.apply",
        "rerating.settle",
        "rerating.done",
    }
    assert_books_are_right()


def test_it_is_applied_once(acme: Organization, old: Price) -> None:
    make_call(acme, old)
    rerating = preview()
    answers = run_together(*(lambda: apply(rerating) for _ in range(4)))
    assert sum(isinstance(answer, UnableToRerate) for answer in answers) == 3
    with pytest.raises(UnableToRerate, match="was decided"):
        rerating_apply(rerating_id=rerating.pk, actor=ACTOR, now=now())
    assert apply(preview()).state == "done"  # Nothing is left to change.
    assert balance_nano_usd(acme.pk) == 10**9 + PAID // 2
    assert_books_are_right()


def test_whoever_is_killed_leaves_the_rest_to_the_next(
    acme: Organization, old: Price, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("billing.rerating.calls.AT_ONCE", "billing.rerating.applying.AT_ONCE"):
        monkeypatch.setattr(name, 2)
    records = [make_call(acme, old) for _ in range(7)]
    rerating = preview()
    rerating_apply(rerating_id=rerating.pk, actor=ACTOR, now=now())
    standings, batches = calls.standings, iter(range(10))

    def killed(batch: Any) -> Any:
        if next(batches) == 2:
            raise SystemExit
        return standings(batch)

    with monkeypatch.context() as deadly:
        deadly.setattr("billing.rerating.applying.standings", killed)
        with pytest.raises(SystemExit):
            reratings_continue(actor=ACTOR, now=now())
    [line] = rerating.lines.all()
    assert (line.changed_calls, line.settled_at) == (4, None)
    assert balance_nano_usd(acme.pk) == 10**9
    # Several go on with it at once, as jobs do that are delivered twice.
    run_together(*(lambda: reratings_continue(actor=ACTOR, now=now()) for _ in range(4)))
    rerating.refresh_from_db()
    assert rerating.state == "done"
    assert ReratedCall.objects.count() == len(records)
    assert balance_nano_usd(acme.pk) == 10**9 + 7 * PAID // 2
    assert_books_are_right()


def test_refunds_are_bounded_by_what_was_charged_in_the_end(acme: Organization, old: Price) -> None:
    record, refunded = make_call(acme, old), make_call(acme, old)

    def refund(record: UsageRecord, amount: int | None) -> int:
        credited = charge_refund(
            request_id=record.request_id,
            amount_nano_usd=amount,
            reason="",
            actor=ACTOR,
            now=now(),
        )
        return credited.grant.amount_nano_usd

    # More was given back of this one than it costs now: it stands at that, and nothing more comes.
    refund(refunded, 15_000_000)
    apply(preview())
    assert (standing_of(record), standing_of(refunded)) == (10_000_000, 15_000_000)
    with pytest.raises(UnableToRefund, match=r"0\.00 are left"):
        refund(refunded, None)
    with pytest.raises(UnableToRefund, match=r"0\.01 are left"):
        refund(record, PAID)
    assert refund(record, None) == PAID // 2
    # A call of which something was refunded does not become dearer.
    price("100", "300")
    line = preview().lines.get()
    assert line.preview_difference_nano_usd == 0
    assert_books_are_right()


def test_what_becomes_dearer_is_taken_as_far_as_there_is_money(old: Price) -> None:
    poor = make_organization("poor", balance_nano_usd=5_000_000)
    records = [make_call(poor, old) for _ in range(2)]
    price("20", "60")
    apply(preview())
    [line] = ReratingLine.objects.all()
    assert (line.collected_nano_usd, line.waived_nano_usd) == (5_000_000, 2 * PAID - 5_000_000)
    assert (balance_nano_usd(poor.pk), Wallet.objects.get().debt_nano_usd) == (0, 0)
    # What was waived was never charged.
    assert sum(map(standing_of, records)) == 2 * PAID + 5_000_000
    assert_books_are_right()


@pytest.mark.parametrize("strict", [True, False])
def test_only_standard_holds_owe_and_only_on_the_operators_word(old: Price, strict: bool) -> None:
    poor = make_organization("poor", balance_nano_usd=5_000_000)
    Wallet.objects.update(strict=strict)
    make_call(poor, old)
    price("20", "60")
    apply(preview(may_owe=True))
    debt = 0 if strict else PAID - 5_000_000
    assert balance_nano_usd(poor.pk) == -debt
    assert Wallet.objects.get().debt_nano_usd == debt
    assert_books_are_right()


def test_money_in_leases_is_waited_for(old: Price) -> None:
    busy = make_organization("busy")
    lease = make_lease(make_grant(busy, amount_nano_usd=2 * PAID), granted_nano_usd=2 * PAID)
    make_call(busy, old)
    price("20", "60")
    rerating = apply(preview())
    assert rerating.state == "running"
    assert Wallet.objects.get().short_at is not None
    other = preview()
    with pytest.raises(UnableToRerate, match="under way"):
        rerating_apply(rerating_id=other.pk, actor=ACTOR, now=now())
    # It comes back.
    lease.slices.all().delete()
    type(lease).objects.update(granted_nano_usd=0, state="closed")
    Grant.objects.update(free_nano_usd=F("leased_nano_usd"), leased_nano_usd=0)
    Wallet.objects.update(balance_nano_usd=2 * PAID)
    assert reratings_continue(actor=ACTOR, now=now())
    assert ReratingLine.objects.get(rerating=rerating).collected_nano_usd == PAID
    assert balance_nano_usd(busy.pk) == PAID
    with pytest.raises(UnableToRerate, match="preview it anew"):
        rerating_apply(rerating_id=other.pk, actor=ACTOR, now=now())
    assert_books_are_right()


def test_a_discount_may_be_given_or_be_that_of_now(acme: Organization, old: Price) -> None:
    record = make_call(acme, old)
    assert (
        preview(prices="then", discounts="given", discount_ppm=250_000).lines.get().rated_nano_usd
        == PAID // 2
    )
    discount_set(fraction_ppm=100_000, organization=acme, model=MODEL, actor=ACTOR, now=now())
    apply(preview(prices="then", discounts="now"))
    assert standing_of(record) == FORTY // 10


def test_what_cannot_be_told_stays_as_it_is(acme: Organization, old: Price) -> None:
    odd = make_call(acme, old, official_cost_nano_usd=FORTY + 1)
    unknown = make_call(acme, old, price_id=0)
    capped = make_call(acme, old, charge_nano_usd=PAID - 7)
    free = make_call(acme, old, outcome="upstream_error", charge_nano_usd=0)
    rerating = preview()
    assert rerating.lines.get().unratable_calls == 2
    apply(rerating)
    assert [standing_of(record) for record in (odd, unknown, free)] == [PAID, PAID, 0]
    assert standing_of(capped) == PAID // 2
    # On strict holds a call was charged its hold and no more; that stays its bound.
    price("1000", "3000")
    assert preview(model=MODEL).lines.get().unratable_calls == 2
    apply(preview())
    assert standing_of(capped) == PAID - 7


def test_the_free_tier_does_not_end_by_what_is_given_back(acme: Organization, old: Price) -> None:
    Wallet.objects.update(strict=True, strict_always=False)
    make_call(acme, old)
    apply(preview())
    assert Wallet.objects.get().strict


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"first_day": DAY + dt.timedelta(days=1)}, "after the last"),
        ({"last_day": dt.date(2999, 1, 1)}, "has to be over"),
        ({"prices": "then"}, "what was charged"),
        ({"discounts": "given"}, "a fraction"),
        ({"discount_ppm": 5}, "a fraction"),
        ({"discounts": "given", "discount_ppm": 0}, "above 0"),
        ({"reason": "x" * 301}, "300 characters"),
        ({"first_day": dt.date(2020, 1, 1), "last_day": dt.date(2020, 1, 2)}, "No calls"),
    ],
)
def test_a_re_rating_that_makes_no_sense_is_refused(
    acme: Organization, old: Price, terms: dict[str, Any], sentence: str
) -> None:
    make_call(acme, old)
    with pytest.raises(UnableToRerate, match=sentence):
        preview(**terms)
    assert not Rerating.objects.exists()


def test_the_audit_finds_what_moved_otherwise(acme: Organization, old: Price) -> None:
    make_call(acme, old)
    apply(preview())
    ReratedCall.objects.update(difference_nano_usd=F("difference_nano_usd") + 1)
    found = {finding.invariant for finding in audit(retain_seconds=0)} - BEFORE
    assert found == {"what a re-rating moved is what it changed of its calls"}
    ReratingLine.objects.update(collected_nano_usd=0)
    LedgerEntry.objects.bulk_create(
        LedgerEntry(
            posting=uuid.UUID(int=1),
            sequence=n,
            account=account,
            organization=acme,
            amount_nano_usd=amount,
            reason="x",
        )
        for n, (account, amount) in enumerate((("revenue", 5), ("source", -5)))
    )
    found = {finding.invariant for finding in audit(retain_seconds=0)} - BEFORE
    assert "revenue is what closed leases spent and re-ratings changed" in found


def test_the_commands_preview_and_decide(acme: Organization, old: Price) -> None:
    make_call(acme, old)
    span = ("--from", "2026-11-01", "--to", "2026-11-05", "--organization", "acme")
    answer = ask("rerating_preview", *span, "--model", MODEL)
    assert (answer["calls"], answer["difference_nano_usd"]) == (1, -PAID // 2)
    [row] = answer["lines"]
    assert (row["organization"], row["model"], row["rated_nano_usd"]) == ("acme", MODEL, PAID // 2)
    assert ask("rerating_decide", str(answer["rerating"]), "drop")["state"] == "dropped"
    assert "1 calls, 0.02 -> 0.008 USD (-0.012)" in say(
        "rerating_preview", *span, "--prices", "then", "--discount", "0.2"
    )
    latest = str(Rerating.objects.order_by("-id")[0].pk)
    assert "0.012 USD given back" in say("rerating_decide", latest, "apply")
    assert (
        LedgerEntry.objects.filter(account="revenue").aggregate(s=Sum("amount_nano_usd"))["s"]
        == -12_000_000
    )
    with pytest.raises(CommandError, match="no day"):
        ask("rerating_preview", "--from", "yesterday", "--to", "2026-11-05")
    with pytest.raises(CommandError, match="There is no re-rating"):
        ask("rerating_decide", "999", "apply")
