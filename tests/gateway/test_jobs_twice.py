"""Jobs that a broker delivers twice, late or never: no money depends on it."""

import datetime as dt
from functools import partial

import pytest
from pytest_django import Settings

from accounts.models import Organization
from billing.audit import audit
from billing.credit.balance import balance_nano_usd
from billing.credit.grants import Credit, grant_credit
from billing.credit.payments import PAID, REFUNDED, ProviderEvent, payment_event_receive
from billing.models import Grant, LedgerEntry, Payment, Wallet
from billing.organizations import organization_open
from gateway.celery import app
from tests.committing import committing_db, run_together
from tests.factories import ACTOR, now

__all__ = ["committing_db"]

DOLLAR = 10**9


@pytest.fixture
def acme(committing_db: str, settings: Settings) -> Organization:
    """One dollar that has expired since, and three of ten paid ones that were refunded."""
    settings.DATABASE_URL = committing_db
    long_ago = now() - dt.timedelta(days=9)
    acme = organization_open(name="Acme", quota_nano_usd=0, actor=ACTOR, now=long_ago).organization
    expired = Credit(
        organization_id=acme.pk,
        amount_nano_usd=DOLLAR,
        expires_at=long_ago + dt.timedelta(days=1),
    )
    grant_credit(credit=expired, actor=ACTOR, now=long_ago)
    Payment.objects.create(
        organization=acme, provider="shop", reference="order", amount_nano_usd=10 * DOLLAR
    )
    for kind, dollars in ((PAID, 10), (REFUNDED, 3)):
        event = ProviderEvent(
            event_id=kind,
            kind=kind,
            reference="order",
            intent="money",
            amount_nano_usd=dollars * DOLLAR,
            occurred_at=long_ago,
        )
        payment_event_receive(provider="shop", event=event, actor=ACTOR, now=long_ago)
    return acme


def test_f43_jobs_that_are_delivered_twice_move_money_once(acme: Organization) -> None:
    app.loader.import_default_modules()
    names = sorted({entry["task"] for entry in app.conf.beat_schedule.values()})
    jobs = [app.tasks[name] for name in names]
    for _ in range(2):
        answers = run_together(*(partial(job.run) for job in jobs for _ in range(2)))
        assert [answer for answer in answers if answer is not None] == []
    assert balance_nano_usd(acme.pk) == 7 * DOLLAR
    assert LedgerEntry.objects.filter(reason="grant_expiry", account="expired").count() == 1
    assert Grant.objects.filter(expired_nano_usd=DOLLAR).count() == 1
    assert Wallet.objects.get().reversed_nano_usd == 3 * DOLLAR
    assert audit(retain_seconds=0) == []


def test_f43_a_worker_that_is_killed_leaves_its_message_to_the_next() -> None:
    """And what is lost with the broker is looked for again in a minute: no job carries facts."""
    assert app.conf.task_acks_late
    assert all("args" not in entry for entry in app.conf.beat_schedule.values())
