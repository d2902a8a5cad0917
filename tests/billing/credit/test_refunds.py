import uuid
from functools import partial

import pytest
from django.core.management import CommandError

from accounts.models import Organization
from billing.audit import audit
from billing.credit.balance import balance_nano_usd
from billing.credit.grants import Credited
from billing.credit.refunds import UnableToRefund, charge_refund
from billing.models import Refund, UsageRecord
from tests.commands import ask, say
from tests.committing import run_together
from tests.factories import ACTOR, make_organization, make_usage_record, now

CHARGE = 20_000_000


@pytest.fixture
def acme(db: None) -> Organization:
    return make_organization("acme")


def refund(record: UsageRecord, amount: int | None = None) -> Credited:
    return charge_refund(
        request_id=record.request_id,
        amount_nano_usd=amount,
        reason="it was nonsense",
        actor=ACTOR,
        now=now(),
    )


def test_refunds_never_exceed_the_charge(acme: Organization) -> None:
    record = make_usage_record(acme, charge_nano_usd=CHARGE)
    assert refund(record, CHARGE - 5).balance_nano_usd == CHARGE - 5
    for amount in (6, CHARGE, 0, -1):
        with pytest.raises(UnableToRefund, match="are left"):
            refund(record, amount)
    last = refund(record)
    assert (last.grant.amount_nano_usd, last.balance_nano_usd) == (5, CHARGE)
    assert last.grant.kind == "adjustment"
    assert last.grant.reason == f"refund of {record}: it was nonsense"
    with pytest.raises(UnableToRefund, match=r"0\.00 are left"):
        refund(record)


def test_refunds_at_once_give_the_charge_back_once(committing_db: str) -> None:
    acme = make_organization("acme")
    record = make_usage_record(acme, charge_nano_usd=CHARGE)
    answers = run_together(*(partial(refund, record) for _ in range(8)))
    assert sum(isinstance(answer, Credited) for answer in answers) == 1
    assert sum(isinstance(answer, UnableToRefund) for answer in answers) == 7
    assert balance_nano_usd(acme.pk) == CHARGE


def test_the_audit_finds_more_given_back_than_charged(committing_db: str) -> None:
    acme = make_organization("acme")
    record = make_usage_record(acme, charge_nano_usd=CHARGE)
    refund(record)
    before = {finding.invariant for finding in audit(retain_seconds=0)}
    Refund.objects.update(amount_nano_usd=CHARGE + 1)
    found = {finding.invariant for finding in audit(retain_seconds=0)} - before
    assert found == {"refunds of a call are its grants, and no more than its charge"}


def test_a_call_that_nobody_made_is_not_refunded(acme: Organization) -> None:
    with pytest.raises(UnableToRefund, match="no record"):
        charge_refund(request_id=uuid.uuid4(), amount_nano_usd=1, reason="", actor=ACTOR, now=now())


def test_the_command_refunds(acme: Organization) -> None:
    record = make_usage_record(acme, charge_nano_usd=CHARGE)
    answer = ask("charge_refund", str(record), "--usd", "0.01", "--reason", "slow")
    assert answer["amount_nano_usd"] == 10_000_000
    assert "Refunded 0.01 USD" in say("charge_refund", record.request_id.hex)
    with pytest.raises(CommandError, match="no request id"):
        ask("charge_refund", "req_x")
