import pytest

from accounts.models import Organization
from billing.credit.ledger import Leg, posting_create
from billing.identifiers import uuid7_time
from billing.models import LedgerEntry
from tests.factories import make_organization, now

Account = LedgerEntry.Account


@pytest.fixture
def acme(db: None) -> Organization:
    return make_organization("acme")


def test_a_posting_is_its_legs(acme: Organization) -> None:
    moment = now()
    posting = posting_create(
        organization_id=acme.pk,
        reason="test",
        legs=[Leg(Account.SOURCE, -5), Leg(Account.WALLET, 3, 7), Leg(Account.EXPIRED, 2, 7)],
        now=moment,
    )
    entries = LedgerEntry.objects.filter(posting=posting).order_by("sequence")
    assert [(e.sequence, e.account, e.amount_nano_usd, e.grant_id) for e in entries] == [
        (1, "source", -5, None),
        (2, "wallet", 3, 7),
        (3, "expired", 2, 7),
    ]
    assert {(e.organization, e.reason, e.created_at) for e in entries} == {(acme, "test", moment)}
    assert abs(uuid7_time(posting) - moment).total_seconds() < 60


@pytest.mark.parametrize(
    "amounts", [[], [0], [5], [5, -4], [5, -5, 0]], ids=["none", "zero", "one", "odd", "idle"]
)
def test_what_does_not_balance_is_a_defect(acme: Organization, amounts: list[int]) -> None:
    legs = [Leg(Account.WALLET, amount) for amount in amounts]
    with pytest.raises(AssertionError, match="test"):
        posting_create(organization_id=acme.pk, reason="test", legs=legs, now=now())
    assert not LedgerEntry.objects.exists()
