import datetime as dt
import logging

import pytest

from billing.credit.grants import Credit, grant_credit
from billing.jobs import audit_hourly, grants_expire_due, partitions_create_ahead
from billing.models import AuditRun, Wallet
from billing.usage.partitions import TABLE, first_of_month
from tests.committing import run_together
from tests.factories import ACTOR, make_organization, make_usage_record, now
from tests.raw_sql import execute


def test_due_grants_expire(committing_db: str, caplog: pytest.LogCaptureFixture) -> None:
    organization = make_organization()
    long_ago = now() - dt.timedelta(days=9)
    for amount, days in ((2_500_000_000, 1), (7_000_000_000, 90)):
        credit = Credit(
            organization_id=organization.pk,
            amount_nano_usd=amount,
            expires_at=long_ago + dt.timedelta(days=days),
        )
        grant_credit(credit=credit, actor=ACTOR, now=long_ago)
    with caplog.at_level(logging.INFO):
        grants_expire_due()
        grants_expire_due()
    assert caplog.messages == ["1 grants expired: 2.50 USD"]
    assert Wallet.objects.get(organization=organization).balance_nano_usd == 7_000_000_000


def partition_exists(name: str) -> bool:
    return bool(execute("SELECT to_regclass(%s) IS NOT NULL", name)[0])


def test_missing_partitions_are_created_also_by_two_at_once(
    committing_db: str, caplog: pytest.LogCaptureFixture
) -> None:
    last = f"{TABLE}_{first_of_month(now().date(), 3):%Y_%m}"
    execute(f"DROP TABLE {last}")
    with caplog.at_level(logging.INFO):
        assert run_together(partitions_create_ahead, partitions_create_ahead) == [None, None]
    assert caplog.messages == [f"Created the partitions {last}"]
    assert partition_exists(last)


def test_the_jobs_have_names_that_a_schedule_can_rely_on() -> None:
    assert grants_expire_due.name == "billing.grants_expire_due"
    assert partitions_create_ahead.name == "billing.partitions_create_ahead"


def test_the_hourly_audit_is_kept_and_raises_an_alarm(
    committing_db: str, caplog: pytest.LogCaptureFixture
) -> None:
    organization = make_organization()
    audit_hourly()
    clean = AuditRun.objects.get()
    assert clean.findings == []
    make_usage_record(organization, charge_nano_usd=5)
    audit_hourly()
    findings = AuditRun.objects.latest("started_at").findings
    broken = {finding["invariant"] for finding in findings}
    assert "a lease has spent the sum of its usage records" in broken
    assert "The audit found a breach" in caplog.text
