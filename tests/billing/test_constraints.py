"""What the database refuses whoever writes: every constraint of billing, tried with raw SQL."""

import datetime as dt
import uuid
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, transaction

from billing.identifiers import uuid7_floor
from billing.models import LedgerEntry, UsageRecord
from billing.usage.partitions import TABLE, first_of_month
from tests.billing import money_in_rows
from tests.committing import Listener
from tests.factories import (
    make_grant,
    make_lease,
    make_organization,
    make_worker,
    now,
    usage_record_values,
)
from tests.raw_sql import Break, Row, check_break, constraints_of, execute, insert

NOW = dt.datetime(2026, 5, 17, 10, 30, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
SOME_ID = uuid.UUID(int=7)

BREAKS = [
    *money_in_rows.BREAKS,
    Break("price_starts_once", "billing_price", {"effective_to": NOW + DAY}, beside={}),
    Break("price_current_is_unique", "billing_price", {"effective_from": NOW + DAY}, beside={}),
    Break("price_period_is_forward", "billing_price", {"effective_to": NOW}),
    Break("price_period_is_forward", "billing_price", {"effective_to": NOW - DAY}),
    Break("price_output_cap_field_is_known", "billing_price", {"output_cap_field": "limit"}),
    Break("price_is_of_something", "billing_price", {"tiers": {}}),
    Break("discount_current_is_unique", "billing_discount", {"fraction_ppm": 9}, beside={}),
    Break(
        "discount_current_is_unique",
        "billing_discount",
        {"organization_id": None, "model": ""},
        beside={"organization_id": None, "model": ""},
    ),
    Break("discount_fraction_is_sane", "billing_discount", {"fraction_ppm": 0}),
    Break("discount_fraction_is_sane", "billing_discount", {"fraction_ppm": -1}),
    Break("discount_fraction_is_sane", "billing_discount", {"fraction_ppm": 100_000_001}),
    Break("discount_period_is_forward", "billing_discount", {"effective_to": NOW}),
    Break(
        "wallet_debt_is_not_negative",
        "billing_wallet",
        {"balance_nano_usd": 5, "debt_nano_usd": -1},
    ),
    Break(
        "wallet_strict_has_no_debt",
        "billing_wallet",
        {"strict": True, "balance_nano_usd": 0, "debt_nano_usd": 1},
    ),
    Break(
        "wallet_balance_at_least_minus_debt",
        "billing_wallet",
        {"debt_nano_usd": 5, "balance_nano_usd": -6},
    ),
    Break("wallet_strict_always_is_strict", "billing_wallet", {"strict_always": True}),
    Break("grant_parts_are_not_negative", "billing_grant", {"amount_nano_usd": 0}),
    Break(
        "grant_parts_are_not_negative",
        "billing_grant",
        {"free_nano_usd": -1, "leased_nano_usd": 11},
    ),
    Break(
        "grant_parts_are_not_negative",
        "billing_grant",
        {"free_nano_usd": 11, "leased_nano_usd": -1},
    ),
    Break(
        "grant_parts_are_not_negative",
        "billing_grant",
        {"free_nano_usd": 11, "burnt_nano_usd": -1},
    ),
    Break(
        "grant_parts_are_not_negative",
        "billing_grant",
        {"free_nano_usd": 11, "expired_nano_usd": -1},
    ),
    Break("grant_parts_sum_to_amount", "billing_grant", {"free_nano_usd": 9}),
    Break("grant_parts_sum_to_amount", "billing_grant", {"burnt_nano_usd": 1}),
    Break("grant_kind_is_known", "billing_grant", {"kind": "gift"}),
    Break(
        "grant_free_quota_once_per_organization",
        "billing_grant",
        {"kind": "free_quota"},
        beside={"kind": "free_quota"},
    ),
    Break("worker_state_is_known", "billing_worker", {"state": "asleep"}),
    Break("worker_offset_is_not_negative", "billing_worker", {"shipped_offset": -1}),
    Break("lease_spent_within_granted", "billing_lease", {"spent_nano_usd": 11}),
    Break("lease_spent_within_granted", "billing_lease", {"spent_nano_usd": -1}),
    Break("lease_closed_keeps_nothing", "billing_lease", {"state": "closed"}),
    Break("lease_state_is_known", "billing_lease", {"state": "idle", "spent_nano_usd": 10}),
    Break("lease_slice_position_is_unique", "billing_leaseslice", beside={}),
    Break("lease_slice_holds_money", "billing_leaseslice", {"amount_nano_usd": 0}),
    Break("lease_slice_holds_money", "billing_leaseslice", {"amount_nano_usd": -1}),
    Break(
        "ledger_entry_sequence_is_unique",
        "billing_ledgerentry",
        {"amount_nano_usd": -10},
        beside={},
    ),
    Break("ledger_entry_account_is_known", "billing_ledgerentry", {"account": "mine"}),
    Break("ledger_entry_moves_money", "billing_ledgerentry", {"amount_nano_usd": 0}),
    *[
        Break("usage_record_money_is_not_negative", TABLE, {column: -1})
        for column in (
            "charge_nano_usd",
            "official_cost_nano_usd",
            "upstream_cost_nano_usd",
            "hold_nano_usd",
        )
    ],
    *[
        Break("usage_record_tokens_are_not_negative", TABLE, {column: -1})
        for column in (
            "prompt_tokens",
            "cached_tokens",
            "completion_tokens",
            "reasoning_tokens",
        )
    ],
    *[
        Break("usage_record_unbilled_outcomes", TABLE, {"outcome": outcome})
        for outcome in ("lost", "expired", "upstream_error")
    ],
    Break("set_aside_record_once", "billing_setasiderecord", beside={}),
]


def valid_rows() -> dict[str, Row]:
    organization = make_organization("acme", balance_nano_usd=20)
    grant = organization.grants.get()
    lease = make_lease(grant, granted_nano_usd=10)
    # Its wallet is the row that is tried.
    bare = make_organization("bare")
    execute("DELETE FROM billing_wallet WHERE organization_id = %s", bare.pk)
    return {
        "billing_price": {
            "model": "test-1",
            "effective_from": NOW,
            "effective_to": None,
            "tiers": {"default": {}},
            "unit_rates": {},
            "output_cap_field": "max_tokens",
            "endpoints": "[]",
            "source": "test",
            "created_at": NOW,
        },
        "billing_discount": {
            "organization_id": organization.pk,
            "model": "test-1",
            "fraction_ppm": 100_000_000,
            "effective_from": NOW,
            "effective_to": None,
            "created_at": NOW,
        },
        "billing_wallet": {
            "organization_id": bare.pk,
            "strict": False,
            "strict_always": False,
            "balance_nano_usd": -5,
            "debt_nano_usd": 5,
        },
        "billing_grant": {
            "organization_id": organization.pk,
            "kind": "top_up",
            "amount_nano_usd": 10,
            "free_nano_usd": 10,
            "leased_nano_usd": 0,
            "burnt_nano_usd": 0,
            "expired_nano_usd": 0,
            "reason": "",
            "created_at": NOW,
        },
        "billing_worker": {
            "report": {},
            "id": SOME_ID,
            "node": "node-1",
            "state": "live",
            "expires_at": NOW,
            "shipped_offset": 0,
            "was_lost": False,
            "started_at": NOW,
        },
        "billing_lease": {
            "id": SOME_ID,
            "worker_id": make_worker().pk,
            "organization_id": organization.pk,
            "state": "open",
            "version": 1,
            "granted_nano_usd": 10,
            "spent_nano_usd": 0,
            "usable_until": NOW,
            "opened_at": NOW,
        },
        "billing_leaseslice": {
            "lease_id": lease.pk,
            "position": 9,
            "grant_id": grant.pk,
            "amount_nano_usd": 1,
        },
        "billing_ledgerentry": ledger_entry(organization.pk),
        TABLE: usage_record_values(organization),
        **money_in_rows.valid_rows(organization.pk, grant.pk),
        "billing_setasiderecord": {
            "worker_id": SOME_ID,
            "journal_offset": 5,
            "payload": b"x",
            "reason": "test",
            "created_at": NOW,
        },
    }


def ledger_entry(organization_id: int, **changes: Any) -> Row:
    entry: Row = {
        "posting": SOME_ID,
        "sequence": 1,
        "account": "wallet",
        "organization_id": organization_id,
        "amount_nano_usd": 10,
        "reason": "test",
        "created_at": NOW,
    }
    return entry | changes


@pytest.mark.django_db
@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.constraint)
def test_the_database_refuses(broken: Break) -> None:
    valid = valid_rows()[broken.table]
    with transaction.atomic():
        check_break(broken, valid)
        # What was put beside it may be half of a posting.
        transaction.set_rollback(True)


@pytest.mark.django_db
def test_the_rows_that_are_broken_were_valid() -> None:
    with transaction.atomic():
        for table, row in valid_rows().items():
            insert(table, row)
        transaction.set_rollback(True)


def test_every_constraint_is_tried() -> None:
    assert constraints_of("billing") == {broken.constraint for broken in BREAKS}


@pytest.mark.django_db
def test_a_request_is_recorded_once_and_a_wallet_exists_once() -> None:
    rows = valid_rows()
    for table in (TABLE, "billing_wallet", "billing_lease", "billing_worker"):
        insert(table, rows[table])
        taken = pytest.raises(IntegrityError, match="already exists")
        with taken, transaction.atomic():
            insert(table, rows[table])


# --- The ledger's triggers ------------------------------------------------------------------------


def post(organization_id: int, posting: uuid.UUID, *amounts: int) -> None:
    for sequence, amount in enumerate(amounts, start=1):
        entry = ledger_entry(
            organization_id, posting=posting, sequence=sequence, amount_nano_usd=amount
        )
        insert("billing_ledgerentry", entry)


@pytest.mark.django_db
@pytest.mark.parametrize("amounts", [(10,), (10, -9), (10, -10, 1), (2**62, 2**62, -(2**63) + 1)])
def test_a_posting_that_does_not_balance_is_not_committed(amounts: tuple[int, ...]) -> None:
    organization = make_organization()
    refused = pytest.raises(IntegrityError, match="does not sum to zero")
    with refused, transaction.atomic():
        post(organization.pk, SOME_ID, *amounts)
        execute("SET CONSTRAINTS ALL IMMEDIATE")
    assert not LedgerEntry.objects.exists()


def test_a_posting_is_checked_when_it_is_whole(committing_db: str) -> None:
    organization = make_organization()
    with transaction.atomic():  # Out of balance for a moment.
        post(organization.pk, SOME_ID, 10, -7, -3)
    assert LedgerEntry.objects.filter(posting=SOME_ID).count() == 3
    with pytest.raises(IntegrityError, match="does not sum to zero"):
        insert("billing_ledgerentry", ledger_entry(organization.pk, posting=uuid.UUID(int=8)))
    late = ledger_entry(organization.pk, sequence=4)
    with pytest.raises(IntegrityError, match="does not sum to zero"):
        insert("billing_ledgerentry", late)
    assert LedgerEntry.objects.count() == 3


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing_ledgerentry SET amount_nano_usd = amount_nano_usd",
        "UPDATE billing_ledgerentry SET reason = 'x' WHERE false",
        "DELETE FROM billing_ledgerentry",
        "TRUNCATE billing_ledgerentry",
    ],
)
def test_the_ledger_is_append_only(statement: str) -> None:
    post(make_organization().pk, SOME_ID, 10, -10)
    execute("SET CONSTRAINTS ALL IMMEDIATE")
    refused = pytest.raises(IntegrityError, match="billing_ledgerentry is append-only")
    with refused, transaction.atomic():
        execute(statement)
    assert LedgerEntry.objects.count() == 2


# --- Partitions -----------------------------------------------------------------------------------


def partition_of(request_id: uuid.UUID) -> str:
    [name] = execute(
        f"SELECT tableoid::regclass::text FROM {TABLE} WHERE request_id = %s", request_id
    )
    return str(name)


@pytest.mark.django_db
def test_a_record_goes_to_the_partition_of_its_month() -> None:
    organization = make_organization()
    today = now().date()
    for months in (0, 1, 3):
        month = first_of_month(today, months)
        first = usage_record_values(organization, request_id=uuid7_floor(month))
        insert(TABLE, first)
        assert partition_of(first["request_id"]) == f"{TABLE}_{month:%Y_%m}"
    last = usage_record_values(
        organization, request_id=uuid.UUID(int=uuid7_floor(first_of_month(today, 1)).int - 1)
    )
    insert(TABLE, last)
    assert partition_of(last["request_id"]) == f"{TABLE}_{today:%Y_%m}"
    assert UsageRecord.objects.count() == 4


@pytest.mark.django_db
def test_a_stray_goes_to_the_default_partition() -> None:
    organization = make_organization()
    for stray in (uuid7_floor(dt.date(2020, 1, 1)), uuid.UUID(int=2**128 - 1)):
        insert(TABLE, usage_record_values(organization, request_id=stray))
        assert partition_of(stray) == f"{TABLE}_default"


# --- What the workers are told --------------------------------------------------------------------


def price(model: str) -> Row:
    return {
        "model": model,
        "effective_from": NOW,
        "tiers": {"default": {}},
        "output_cap_field": "max_tokens",
        "endpoints": "[]",
        "source": "test",
        "created_at": NOW,
    }


def test_every_change_of_prices_and_discounts_is_told(
    committing_db: str, listener: Listener
) -> None:
    insert("billing_price", price("test-1"))
    execute("UPDATE billing_price SET source = 'x' WHERE model = 'test-1'")
    execute("DELETE FROM billing_price WHERE model = 'test-1'")
    insert(
        "billing_discount",
        {"model": "", "fraction_ppm": 1, "effective_from": NOW, "created_at": NOW},
    )
    execute("UPDATE billing_discount SET fraction_ppm = 2")
    execute("DELETE FROM billing_discount")
    told = [payload.split() for payload in listener.heard()]
    assert [(topic, organization) for topic, _, organization in told] == [("prices", "0")] * 6
    versions = [int(version) for _, version, _ in told]
    assert versions == list(range(versions[0], versions[0] + 6))
    [stored] = execute("SELECT version FROM accounts_configurationversion WHERE topic = 'prices'")
    assert stored == versions[-1]


def test_a_grant_is_told_and_its_use_is_not(committing_db: str, listener: Listener) -> None:
    organization = make_organization()
    listener.heard()
    grant = make_grant(organization, amount_nano_usd=100)
    assert listener.heard() == [f"wallet 0 {organization.pk}"]
    make_lease(grant, granted_nano_usd=10)
    assert listener.heard() == []


def test_a_ledger_error_is_one_of_integrity(committing_db: str) -> None:
    """Code that ships records tells a refused one from a database that is away by the class."""
    refused = pytest.raises(psycopg.errors.IntegrityConstraintViolation)
    with psycopg.connect(committing_db, autocommit=True) as connection, refused:
        connection.execute("DELETE FROM billing_ledgerentry")
