import datetime as dt

import pytest
from pytest_django import Settings

from accounts.models import AuditEvent, Organization, Project
from accounts.slugs import InvalidSlug
from billing.credit.grants import MAX_BALANCE_NANO_USD, UnableToGrant
from billing.models import Grant, LedgerEntry, Wallet
from billing.organizations import organization_open
from tests.factories import ACTOR

NOW = dt.datetime(2026, 5, 17, 10, 30, tzinfo=dt.UTC)


@pytest.mark.django_db
def test_an_organization_is_opened_whole(settings: Settings) -> None:
    settings.FREE_QUOTA_USD, settings.FREE_QUOTA_DAYS = "5", 30
    opened = organization_open(name="Acme GmbH", actor=ACTOR, now=NOW)
    assert opened.organization.slug == "acme-gmbh"
    assert (opened.project.organization, opened.project.slug) == (opened.organization, "default")
    assert opened.balance_nano_usd == 5_000_000_000
    wallet = Wallet.objects.get(organization=opened.organization)
    assert (wallet.balance_nano_usd, wallet.debt_nano_usd) == (5_000_000_000, 0)
    grant = Grant.objects.get(organization=opened.organization)
    assert (grant.kind, grant.free_nano_usd) == ("free_quota", 5_000_000_000)
    assert grant.expires_at == NOW + dt.timedelta(days=30)
    entries = LedgerEntry.objects.order_by("sequence").values_list("account", "amount_nano_usd")
    assert list(entries) == [("source", -5_000_000_000), ("wallet", 5_000_000_000)]
    actions = AuditEvent.objects.order_by("id").values_list("action", flat=True)
    assert list(actions) == ["organization.create", "project.create", "grant.credit"]


@pytest.mark.django_db
def test_without_a_quota_there_is_a_wallet_and_nothing_in_it() -> None:
    opened = organization_open(name="Acme", quota_nano_usd=0, actor=ACTOR, now=NOW)
    assert opened.balance_nano_usd == 0
    assert Wallet.objects.get(organization=opened.organization).balance_nano_usd == 0
    assert not Grant.objects.exists()
    assert not LedgerEntry.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("asked", "strict", "strict_always"),
    [(None, True, False), (True, True, True), (False, False, False)],
)
def test_holds_are_strict_on_the_free_tier_unless_told_otherwise(
    asked: bool | None, strict: bool, strict_always: bool
) -> None:
    opened = organization_open(name="Acme", strict=asked, actor=ACTOR, now=NOW)
    wallet = Wallet.objects.get(organization=opened.organization)
    assert (wallet.strict, wallet.strict_always) == (strict, strict_always)


def test_what_cannot_be_opened_whole_is_not_opened(committing_db: str) -> None:
    with pytest.raises(UnableToGrant):
        organization_open(
            name="Acme", quota_nano_usd=MAX_BALANCE_NANO_USD + 1, actor=ACTOR, now=NOW
        )
    with pytest.raises(UnableToGrant):
        organization_open(name="Acme", quota_nano_usd=-1, actor=ACTOR, now=NOW)
    with pytest.raises(InvalidSlug):
        organization_open(name="Acme", slug="openai", actor=ACTOR, now=NOW)
    assert not Organization.objects.filter(name="Acme").exists()
    assert not Project.objects.filter(organization__name="Acme").exists()
    assert not AuditEvent.objects.filter(action="organization.create").exists()
