import datetime as dt
import re

import pytest
from django.core.management import CommandError, call_command, load_command_class
from pytest_django import Settings

from accounts.models import AuditEvent, Organization
from billing.models import Discount, Grant, LedgerEntry, Price, Wallet
from billing.pricing import DENOMINATIONS
from tests.commands import ask, manage, say
from tests.factories import make_lease, make_organization, now


@pytest.fixture
def acme(db: None) -> Organization:
    return make_organization("acme")


@pytest.mark.django_db
def test_an_organization_gets_the_free_quota_of_the_settings(settings: Settings) -> None:
    settings.FREE_QUOTA_USD, settings.FREE_QUOTA_DAYS = "5", 30
    assert ask("organization_create", "Acme GmbH") == {
        "organization": "acme-gmbh",
        "project": "default",
        "balance_nano_usd": 5_000_000_000,
    }
    wallet = Wallet.objects.get()
    assert (wallet.strict, wallet.strict_always) == (True, False)
    assert Grant.objects.get().kind == "free_quota"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "balance", "strict", "strict_always"),
    [
        (["--quota", "0.000000001"], 1, True, False),
        (["--quota", "0"], 0, True, False),
        (["--quota", "2", "--holds", "strict"], 2_000_000_000, True, True),
        (["--quota", "2", "--holds", "standard"], 2_000_000_000, False, False),
    ],
)
def test_quota_and_holds_can_be_given(
    options: list[str], balance: int, strict: bool, strict_always: bool
) -> None:
    answer = ask("organization_create", "Acme", "--slug", "big-one", *options)
    assert (answer["organization"], answer["balance_nano_usd"]) == ("big-one", balance)
    wallet = Wallet.objects.get()
    assert (wallet.strict, wallet.strict_always) == (strict, strict_always)


def test_a_grant_answers_with_the_balance(acme: Organization) -> None:
    answer = ask("credit_grant", "acme", "12.5")
    grant = Grant.objects.get()
    assert answer == {
        "grant": grant.pk,
        "amount_nano_usd": 12_500_000_000,
        "balance_nano_usd": 12_500_000_000,
    }
    make_lease(grant, granted_nano_usd=10_000_000_000, spent_nano_usd=4_000_000_000)
    before = now()
    answer = ask("credit_grant", "acme", "1", "--expires", "2w", "--reason", "sorry")
    assert answer["balance_nano_usd"] == 9_500_000_000
    second = Grant.objects.get(pk=answer["grant"])
    assert (second.kind, second.reason) == ("top_up", "sorry")
    assert second.expires_at is not None
    assert before <= second.expires_at - dt.timedelta(weeks=2) <= now()


def test_a_person_is_told_dollars(acme: Organization) -> None:
    text = say("credit_grant", "acme", "12.5")
    assert (
        text == f"Granted 12.50 USD (grant {Grant.objects.get().pk}); the balance is 12.50 USD.\n"
    )
    assert "balance is 3.00 USD" in say("organization_create", "Other", "--quota", "3")


def test_discounts_are_set_for_every_scope(acme: Organization) -> None:
    ask("price_set", "test-1", "--input", "1", "--output", "1")
    everybody = ask("discount_set", "0.7")
    assert (everybody["discount_ppm"], everybody["organization"], everybody["model"]) == (
        700_000,
        None,
        None,
    )
    ask("discount_set", "0.4", "--organization", "acme")
    ask("discount_set", "0.3", "--model", "test-1")
    ask("discount_set", "0.25", "--organization", "acme", "--model", "test-1")
    ask("discount_set", "1.5", "--surcharge", "--organization", "acme")
    rows = Discount.objects.filter(effective_to=None).order_by("fraction_ppm")
    assert [(row.fraction_ppm, row.organization, row.model) for row in rows] == [
        (250_000, acme, "test-1"),
        (300_000, None, "test-1"),
        (700_000, None, ""),
        (1_500_000, acme, ""),
    ]
    assert say("discount_set", "0.5") == (
        "From now on everybody pays 0.5 of the official price of every model.\n"
    )


@pytest.mark.django_db
def test_a_price_is_set_from_now_on() -> None:
    before = now()
    answer = ask("price_set", "test-1", "--input", "10", "--output", "30", "--cached", "2.5")
    assert answer["model"] == "test-1"
    effective_from = dt.datetime.fromisoformat(answer["effective_from"])
    assert before <= effective_from <= now()
    price = Price.objects.get()
    assert (price.pk, price.effective_from) == (answer["price"], effective_from)
    assert price.tiers["default"] == {
        "input_tokens": "10",
        "output_tokens": "30",
        "cached_input_tokens": "2.5",
    }
    assert answer["units"] == []
    assert answer["preview"] == "1K in + 1K out = $0.04"
    assert answer["endpoints"] == price.endpoints
    asked = ask("price_set", "b", "--input", "1", "--output", "2", "--endpoints", "embeddings")
    assert asked["endpoints"] == ["embeddings"]
    assert "1K in + 1K out = $0.003" in say("price_set", "test-1", "--input", "1", "--output", "2")
    dear = ("price_set", "test-1", "--input", "1", "--output", "200")
    with pytest.raises(CommandError, match="has to be meant"):
        ask(*dear)
    assert ask(*dear, "--sure")["preview"] == "1K in + 1K out = $0.201"


@pytest.mark.django_db
def test_a_price_may_be_of_units_alone() -> None:
    answer = ask("price_set", "voice-1", "--unit", "characters=15")
    assert answer["units"] == ["characters=15"]
    price = Price.objects.get()
    assert (price.tiers, price.unit_rates) == ({}, {"characters": "15"})
    assert price.endpoints == ["audio/speech"]


@pytest.mark.django_db
def test_tokens_and_several_units_have_a_price_together() -> None:
    units = ("web_search_calls=0.01", "image/high/1024x1024=0.167")
    arguments = [argument for unit in units for argument in ("--unit", unit)]
    answer = ask("price_set", "test-1", "--input", "5", "--output", "40", *arguments)
    assert answer["units"] == list(units)
    price = Price.objects.get()
    assert price.tiers == {"default": {"input_tokens": "5", "output_tokens": "40"}}
    assert price.unit_rates == {"web_search_calls": "0.01", "image/high/1024x1024": "0.167"}


def test_the_help_says_what_each_unit_is_quoted_by() -> None:
    parser = load_command_class("billing", "price_set").create_parser("manage.py", "price_set")
    text = parser.format_help()
    for name, quoted in DENOMINATIONS.items():
        assert re.search(rf"{name} +USD per {quoted.per}\n", text)
    assert "image/high/1024x1024" in text


@pytest.mark.django_db
def test_the_price_book_loads_twice_and_changes_once() -> None:
    first = ask("price_book_load")
    assert first["added"] > 50
    assert ask("price_book_load") == {
        "added": 0,
        "changed": 0,
        "unchanged": first["added"],
        "kept": 0,
    }
    assert "0 added, 0 changed" in say("price_book_load")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["organization_create", " "], "A name is"),
        (["organization_create", "X", "--slug", "v1"], "reserved"),
        (["organization_create", "X", "--slug", "acme"], "taken"),
        (["organization_create", "X", "--quota", "-1"], "more than 0"),
        (["organization_create", "X", "--quota", "$5"], "plain decimal"),
        (["organization_create", "X", "--quota", "0.0000000001"], "decimals"),
        (["credit_grant", "nobody", "5"], "no organization 'nobody'"),
        (["credit_grant", "acme", "0"], "more than 0"),
        (["credit_grant", "acme", "-5"], "more than 0"),
        (["credit_grant", "acme", "5,00"], "plain decimal"),
        (["credit_grant", "acme", "5", "--expires", "yesterday"], "no moment"),
        (["discount_set", "0"], "more than 0"),
        (["discount_set", "5"], "more than the official price"),
        (["discount_set", "200", "--surcharge"], "at most 100"),
        (["discount_set", "half"], "plain decimal"),
        (["discount_set", "0.5", "--organization", "nobody"], "no organization 'nobody'"),
        (["discount_set", "0.5", "--model", "gtp-4o"], "no price for a model 'gtp-4o'"),
        (["price_set", "test-1", "--input", "-1", "--output", "1"], "not negative"),
        (["price_set", "a b", "--input", "1", "--output", "1"], "no model id"),
        (["price_set", "test-1"], "input and output, or of other units"),
        (["price_set", "test-1", "--input", "1"], "Input and output have a price each"),
        (["price_set", "test-1", "--cached", "1"], "Input and output have a price each"),
        (["price_set", "test-1", "--unit", "characters"], "no NAME=USD"),
        (["price_set", "test-1", "--unit", "characters="], "no NAME=USD"),
        (["price_set", "test-1", "--unit", "=5"], "no NAME=USD"),
        (["price_set", "test-1", "--unit", "songs=5"], "'songs' is no unit .* characters, "),
        (["price_set", "test-1", "--unit", "image/high=5"], "no unit .* image/QUALITY"),
        (["price_set", "test-1", "--unit", "input_tokens=5"], "no unit that we know"),
        (["price_set", "test-1", "--unit", "characters=1,5"], "plain decimal"),
        (["price_set", "test-1", "--unit", "characters=-1"], "not negative"),
        (["price_set", "test-1", "--unit", "web_search_calls=-1"], "not negative"),
        (["price_set", "test-1", "--unit", "web_search_calls=0.0000000001"], "decimals"),
        (["price_set", "test-1", "--unit", "web_search_calls=5000.1"], "more than we can count"),
        (["price_set", "test-1", "--unit", "characters=5000001"], "per 1M characters is more"),
        (["price_set", "t-1", "--unit", "characters=1", "--unit", "characters=1"], "two prices"),
        (["price_set", "test-1", "--unit", "web_search_calls=0.01"], "beside that of tools"),
    ],
)
def test_what_the_domain_refuses_is_an_error_and_changes_nothing(
    acme: Organization, arguments: list[str], complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint) as refused:
        call_command(*arguments)
    assert refused.value.returncode == 1
    assert Organization.objects.count() == 1
    tables = (AuditEvent, Grant, LedgerEntry, Discount, Price)
    assert [table.__name__ for table in tables if table.objects.exists()] == []


def test_an_operator_at_a_shell_sees_the_same(fresh_database_url: str) -> None:
    done = manage("organization_create", "Acme", "--json", DATABASE_URL=fresh_database_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith('{"organization": "acme", ')
    done = manage("credit_grant", "acme", "-5", DATABASE_URL=fresh_database_url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "CommandError: A grant is more than 0.\n"
