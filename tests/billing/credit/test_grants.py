import datetime as dt
from functools import partial
from typing import Any

import pytest
from django.db import transaction
from pytest_django import Settings

from accounts.models import AuditEvent, Organization
from billing.credit.grants import (
    MAX_BALANCE_NANO_USD,
    Credit,
    Credited,
    Expired,
    UnableToGrant,
    free_quota,
    grant_add,
    grant_credit,
    grants_expire,
)
from billing.models import Grant, LedgerEntry, Wallet
from tests.committing import Listener, run_together
from tests.factories import ACTOR, make_lease, make_organization

NOW = dt.datetime(2026, 5, 17, 10, 30, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture
def acme(db: None) -> Organization:
    return make_organization("acme")


def credit(organization: Organization, amount_nano_usd: int, **terms: Any) -> Credited:
    wanted = Credit(organization_id=organization.pk, amount_nano_usd=amount_nano_usd, **terms)
    return grant_credit(credit=wanted, actor=ACTOR, now=NOW)


def owe(organization: Organization, amount_nano_usd: int) -> None:
    """As a call does that cost more than the wallet had."""
    Wallet.objects.filter(organization=organization).update(
        strict=False, debt_nano_usd=amount_nano_usd, balance_nano_usd=-amount_nano_usd
    )


def wallet_of(organization: Organization) -> tuple[int, int, bool]:
    wallet = Wallet.objects.get(organization=organization)
    return wallet.balance_nano_usd, wallet.debt_nano_usd, wallet.strict


def parts_of(grant: Grant) -> tuple[int, int, int, int]:
    grant.refresh_from_db()
    return (
        grant.free_nano_usd,
        grant.leased_nano_usd,
        grant.burnt_nano_usd,
        grant.expired_nano_usd,
    )


def entries_of(organization: Organization) -> list[tuple[str, int]]:
    entries = LedgerEntry.objects.filter(organization=organization).order_by("id")
    return [(entry.account, entry.amount_nano_usd) for entry in entries]


def test_a_credit_is_a_grant_a_posting_and_a_record(acme: Organization) -> None:
    credited = credit(acme, 500, expires_at=NOW + DAY, reason="invoice 7")
    assert credited.balance_nano_usd == 500
    assert parts_of(credited.grant) == (500, 0, 0, 0)
    assert (credited.grant.kind, credited.grant.reason) == ("top_up", "invoice 7")
    assert (credited.grant.created_at, credited.grant.expires_at) == (NOW, NOW + DAY)
    assert wallet_of(acme)[:2] == (500, 0)
    assert entries_of(acme) == [("source", -500), ("wallet", 500)]
    assert set(LedgerEntry.objects.values_list("reason", "grant_id", "created_at")) == {
        ("grant", credited.grant.pk, NOW)
    }
    event = AuditEvent.objects.get()
    assert (event.action, event.organization) == ("grant.credit", acme)
    assert event.details["amount_nano_usd"] == 500


def test_the_balance_counts_what_leases_have_not_spent(acme: Organization) -> None:
    grant = credit(acme, 500).grant
    make_lease(grant, granted_nano_usd=300, spent_nano_usd=100)
    assert credit(acme, 50).balance_nano_usd == 500 - 100 + 50


@pytest.mark.parametrize(
    ("owed", "granted", "free", "burnt", "debt_left"),
    [(300, 500, 200, 300, 0), (500, 500, 0, 500, 0), (700, 500, 0, 500, 200)],
)
def test_a_grant_repays_the_debt_first(
    acme: Organization, owed: int, granted: int, free: int, burnt: int, debt_left: int
) -> None:
    owe(acme, owed)
    credited = credit(acme, granted)
    assert parts_of(credited.grant) == (free, 0, burnt, 0)
    assert wallet_of(acme)[:2] == (granted - owed, debt_left)
    assert entries_of(acme) == [("source", -granted), ("wallet", granted)]


@pytest.mark.parametrize(
    ("strict_always", "kind", "strict"),
    [
        (False, Grant.Kind.FREE_QUOTA, True),
        (False, Grant.Kind.TOP_UP, False),
        (False, Grant.Kind.CODE, False),
        (False, Grant.Kind.ADJUSTMENT, False),
        (True, Grant.Kind.TOP_UP, True),
    ],
)
def test_other_money_than_the_free_quota_ends_strict_holds(
    acme: Organization, strict_always: bool, kind: Grant.Kind, strict: bool
) -> None:
    Wallet.objects.filter(organization=acme).update(strict_always=strict_always)
    credit(acme, 500, kind=kind)
    assert wallet_of(acme)[2] is strict


def test_the_free_quota_does_not_bring_strict_holds_back(acme: Organization) -> None:
    owe(acme, 300)
    credit(acme, 100, kind=Grant.Kind.FREE_QUOTA)
    assert wallet_of(acme) == (-200, 200, False)


@pytest.mark.parametrize(
    ("amount_nano_usd", "terms"),
    [
        (0, {}),
        (-1, {}),
        (MAX_BALANCE_NANO_USD + 1, {}),
        (2**63, {}),
        (500, {"expires_at": NOW}),
        (500, {"reason": "x" * 301}),
    ],
)
def test_a_grant_without_sense_is_refused(
    acme: Organization, amount_nano_usd: int, terms: dict[str, Any]
) -> None:
    with pytest.raises(UnableToGrant):
        credit(acme, amount_nano_usd, **terms)
    assert not Grant.objects.exists()
    assert wallet_of(acme) == (0, 0, True)
    assert entries_of(acme) == []


def test_an_organization_that_was_not_opened_gets_no_money(db: None) -> None:
    organization = Organization.objects.create(slug="half", name="Half")
    with pytest.raises(UnableToGrant, match="no wallet"):
        credit(organization, 500)


def test_a_grant_that_expires_is_told_from_one_that_does_not(acme: Organization) -> None:
    due = credit(acme, 500, expires_at=NOW + DAY).grant
    later = credit(acme, 300, expires_at=NOW + 2 * DAY).grant
    never = credit(acme, 200).grant
    assert grants_expire(now=NOW + DAY) == Expired(grants=1, amount_nano_usd=500)
    assert parts_of(due) == (0, 0, 0, 500)
    assert parts_of(later) == (300, 0, 0, 0)
    assert parts_of(never) == (200, 0, 0, 0)
    assert wallet_of(acme)[0] == 500
    assert entries_of(acme)[-2:] == [("wallet", -500), ("expired", 500)]
    assert LedgerEntry.objects.filter(reason="grant_expiry", grant_id=due.pk).count() == 2


def test_a_grant_expires_at_its_moment_and_not_before(acme: Organization) -> None:
    credit(acme, 500, expires_at=NOW + DAY)
    assert grants_expire(now=NOW + DAY - dt.timedelta(microseconds=1)) == Expired()
    assert grants_expire(now=NOW + DAY) == Expired(1, 500)


def test_expiring_again_changes_nothing(acme: Organization) -> None:
    credit(acme, 500, expires_at=NOW + DAY)
    grants_expire(now=NOW + 2 * DAY)
    entries = entries_of(acme)
    assert grants_expire(now=NOW + 2 * DAY) == Expired()
    assert entries_of(acme) == entries


def test_only_the_free_part_expires(acme: Organization) -> None:
    grant = credit(acme, 500, expires_at=NOW + DAY).grant
    make_lease(grant, granted_nano_usd=300)
    assert grants_expire(now=NOW + DAY) == Expired(1, 200)
    assert parts_of(grant) == (0, 300, 0, 200)
    assert wallet_of(acme)[0] == 0
    assert grants_expire(now=NOW + DAY) == Expired()


def test_all_organizations_are_visited(acme: Organization) -> None:
    other, idle = make_organization(), make_organization()
    for amount in (500, 30):
        credit(acme, amount, expires_at=NOW + DAY)
    credit(other, 7, expires_at=NOW + DAY)
    credit(idle, 9)
    assert grants_expire(now=NOW + DAY) == Expired(grants=3, amount_nano_usd=537)
    assert [wallet_of(each)[0] for each in (acme, other, idle)] == [0, 0, 9]
    expiry = LedgerEntry.objects.filter(reason="grant_expiry")
    assert expiry.values("posting").distinct().count() == 2


@pytest.mark.parametrize(
    ("days", "given", "amount", "expires_at"),
    [(30, None, 2_500_000_000, NOW + 30 * DAY), (0, None, 2_500_000_000, None), (0, 7, 7, None)],
)
def test_the_free_quota_comes_from_the_settings(
    settings: Settings,
    days: int,
    given: int | None,
    amount: int,
    expires_at: dt.datetime | None,
) -> None:
    settings.FREE_QUOTA_USD, settings.FREE_QUOTA_DAYS = "2.5", days
    quota = free_quota(1, amount_nano_usd=given, now=NOW)
    assert quota == Credit(
        organization_id=1,
        amount_nano_usd=amount,
        kind=Grant.Kind.FREE_QUOTA,
        expires_at=expires_at,
    )


def test_a_free_quota_of_nothing_is_none(settings: Settings) -> None:
    assert free_quota(1, amount_nano_usd=0, now=NOW) is None
    settings.FREE_QUOTA_USD = "0"
    assert free_quota(1, amount_nano_usd=None, now=NOW) is None


def test_adding_outside_a_transaction_is_a_defect(committing_db: str) -> None:
    wanted = Credit(organization_id=make_organization().pk, amount_nano_usd=1)
    with pytest.raises(RuntimeError, match="larger transaction"):
        grant_add(credit=wanted, actor=ACTOR, now=NOW)


def test_parallel_credits_all_count(committing_db: str) -> None:
    acme = make_organization("acme")
    owe(acme, 250)
    answers = run_together(*[partial(credit, acme, 100) for _ in range(4)])
    assert sorted(answer.balance_nano_usd for answer in answers) == [-150, -50, 50, 150]
    assert wallet_of(acme)[:2] == (150, 0)
    assert sum(grant.burnt_nano_usd for grant in Grant.objects.filter(organization=acme)) == 250


def test_the_free_quota_is_given_once_whoever_asks_at_once(committing_db: str) -> None:
    acme = make_organization("acme")
    answers = run_together(
        *[partial(credit, acme, 100, kind=Grant.Kind.FREE_QUOTA) for _ in range(4)]
    )
    refused = [answer for answer in answers if isinstance(answer, UnableToGrant)]
    assert len(refused) == 3
    assert "given once" in str(refused[0])
    assert wallet_of(acme)[0] == 100


def test_parallel_expiries_move_the_money_once(committing_db: str) -> None:
    organizations = [make_organization() for _ in range(3)]
    for organization in organizations:
        for _ in range(2):
            credit(organization, 50, expires_at=NOW + DAY)
    answers = run_together(*[partial(grants_expire, now=NOW + DAY) for _ in range(4)])
    assert sum(answer.amount_nano_usd for answer in answers) == 300
    assert [wallet_of(organization)[0] for organization in organizations] == [0, 0, 0]


def test_expiry_waits_for_a_worker_that_leases_the_money(committing_db: str) -> None:
    """What the worker took before cannot expire, too."""
    acme = make_organization("acme")
    grant = credit(acme, 500, expires_at=NOW + DAY).grant

    def lease() -> None:
        with transaction.atomic():
            Wallet.objects.select_for_update().get(organization=acme)
            make_lease(Grant.objects.get(pk=grant.pk), granted_nano_usd=300)

    _, expired = run_together(lease, partial(grants_expire, now=NOW + DAY))
    if expired.amount_nano_usd == 200:  # The worker came first.
        assert parts_of(grant) == (0, 300, 0, 200)
    else:  # Nothing was left for it: the constraint refused the lease.
        assert expired.amount_nano_usd == 500
        assert parts_of(grant) == (0, 0, 0, 500)
    assert wallet_of(acme)[0] == 0


def test_new_money_is_told_to_the_workers(committing_db: str, listener: Listener) -> None:
    acme = make_organization("acme")
    listener.heard()
    credit(acme, 500)
    assert listener.heard() == [f"wallet 0 {acme.pk}"]
