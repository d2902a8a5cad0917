import datetime as dt
from functools import partial

import pytest
from django.core.management import CommandError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEvent, Organization
from billing.audit import audit
from billing.credit.balance import balance_nano_usd
from billing.credit.codes import (
    MAX_CODES_PER_BATCH,
    CreatedCodes,
    UnableToCreateCodes,
    UnableToRedeem,
    code_batch_revoke,
    code_redeem,
    codes_create,
)
from billing.credit.grants import Credited
from billing.models import CodeBatch, Grant, RedemptionCode
from tests.commands import ask, say
from tests.committing import run_together
from tests.factories import ACTOR, make_organization, now

DAY = dt.timedelta(days=1)


def create(count: int = 1, *, amount_nano_usd: int = 500, **terms: object) -> CreatedCodes:
    expires_at = terms.get("expires_at")
    assert expires_at is None or isinstance(expires_at, dt.datetime)
    return codes_create(
        amount_nano_usd=amount_nano_usd,
        count=count,
        expires_at=expires_at,
        actor=ACTOR,
        now=now(),
    )


def redeem(organization: Organization, code: str, *, at: dt.datetime | None = None) -> Credited:
    return code_redeem(organization_id=organization.pk, code=code, actor=ACTOR, now=at or now())


def assert_books_are_right() -> None:
    assert audit(retain_seconds=0) == []


@pytest.fixture
def acme(db: None) -> Organization:
    return make_organization("acme")


def test_a_code_is_credit_once(committing_db: str) -> None:
    acme = make_organization("acme")
    created = create(2)
    credited = redeem(acme, created.codes[0])
    assert (credited.balance_nano_usd, credited.grant.amount_nano_usd) == (500, 500)
    assert credited.grant.kind == Grant.Kind.CODE
    with pytest.raises(UnableToRedeem, match="redeemed already"):
        redeem(acme, created.codes[0])
    with pytest.raises(UnableToRedeem, match="redeemed already"):
        redeem(make_organization("other"), created.codes[0])
    assert redeem(acme, created.codes[1]).balance_nano_usd == 1000
    assert_books_are_right()


def test_codes_are_stored_as_digests_and_recorded_without_them(acme: Organization) -> None:
    created = create(3)
    assert len(set(created.codes)) == 3
    stored = str(list(RedemptionCode.objects.values())) + str(list(AuditEvent.objects.values()))
    for code in created.codes:
        assert [len(group) for group in code.split("-")] == [5, 5, 5, 5]
        assert code not in stored
        assert code.replace("-", "") not in stored
    assert AuditEvent.objects.get(action="code.create").details["count"] == 3


@pytest.mark.parametrize("typed", ["{0}", "  {1} ", "{2}", "{3}"])
def test_it_does_not_matter_how_a_code_is_typed(acme: Organization, typed: str) -> None:
    [code] = create().codes
    misread = code.replace("0", "o").replace("1", "l")
    spellings = (code.lower(), code.replace("-", " "), code.replace("-", ""), misread)
    assert redeem(acme, typed.format(*spellings)).balance_nano_usd == 500


def test_an_expired_code_is_worth_nothing(acme: Organization) -> None:
    expires_at = now() + DAY
    created = create(2, expires_at=expires_at)
    redeem(acme, created.codes[0], at=expires_at - dt.timedelta(microseconds=1))
    with pytest.raises(UnableToRedeem, match="expired"):
        redeem(acme, created.codes[1], at=expires_at)
    assert balance_nano_usd(acme.pk) == 500


def test_a_revoked_batch_keeps_what_was_redeemed(committing_db: str) -> None:
    acme = make_organization("acme")
    created = create(3)
    redeem(acme, created.codes[0])
    revoke = partial(code_batch_revoke, batch_id=created.batch.pk, actor=ACTOR, now=now())
    assert (revoke(), revoke()) == (2, 0)
    with pytest.raises(UnableToRedeem, match="revoked"):
        redeem(acme, created.codes[1])
    assert balance_nano_usd(acme.pk) == 500
    assert AuditEvent.objects.get(action="code.revoke").details["unused"] == 2
    assert_books_are_right()


def test_those_who_redeem_and_revoke_at_once_agree_on_what_was_unused(committing_db: str) -> None:
    acme = make_organization("acme")
    for _ in range(5):
        created = create(6)
        before = balance_nano_usd(acme.pk)
        revoke = partial(code_batch_revoke, batch_id=created.batch.pk, actor=ACTOR, now=now())
        *_, unused = run_together(*(partial(redeem, acme, code) for code in created.codes), revoke)
        redeemed = RedemptionCode.objects.filter(batch=created.batch, redeemed_at__isnull=False)
        assert redeemed.count() == 6 - unused
        assert balance_nano_usd(acme.pk) - before == 500 * (6 - unused)


@pytest.mark.parametrize("code", ["", "-", "AAAAA-AAAAA-AAAAA-AAAAA", "\x00", "ü" * 1000])
def test_an_unknown_code_is_refused(acme: Organization, code: str) -> None:
    create()
    with pytest.raises(UnableToRedeem, match="no such code"):
        redeem(acme, code)


@pytest.mark.parametrize(
    ("count", "amount_nano_usd", "age"),
    [(0, 1, None), (MAX_CODES_PER_BATCH + 1, 1, None), (1, 0, None), (1, -1, None), (1, 1, -DAY)],
)
def test_a_batch_that_makes_no_sense_is_refused(
    db: None, count: int, amount_nano_usd: int, age: dt.timedelta | None
) -> None:
    with pytest.raises(UnableToCreateCodes):
        create(
            count,
            amount_nano_usd=amount_nano_usd,
            expires_at=None if age is None else now() + age,
        )
    assert not CodeBatch.objects.exists()


def test_b42_fifty_who_redeem_one_code_at_once_credit_it_once(committing_db: str) -> None:
    organizations = [make_organization() for _ in range(5)]
    [code] = create().codes
    answers = run_together(
        *(partial(redeem, organizations[i % 5], code) for i in range(50)),
    )
    credited = [answer for answer in answers if isinstance(answer, Credited)]
    assert len(credited) == 1
    assert all(isinstance(a, UnableToRedeem) for a in answers if a not in credited)
    assert sum(balance_nano_usd(organization.pk) for organization in organizations) == 500
    assert_books_are_right()


def test_b42_a_code_is_redeemed_behind_its_rows_lock(acme: Organization) -> None:
    [code] = create().codes
    with CaptureQueriesContext(connection) as asked:
        redeem(acme, code)
    [first] = [query["sql"] for query in asked if "redemptioncode" in query["sql"]][:1]
    assert first.startswith("SELECT")
    assert first.endswith("FOR UPDATE")


def test_a_redeemed_code_can_not_be_used_again_by_changing_its_row(acme: Organization) -> None:
    redeem(acme, create().codes[0])
    code = RedemptionCode.objects.get()
    with pytest.raises(IntegrityError, match="never changed"), transaction.atomic():
        RedemptionCode.objects.update(redeemed_at=None, organization=None, grant=None)
    with pytest.raises(IntegrityError, match="never changed"), transaction.atomic():
        RedemptionCode.objects.filter(pk=code.pk).delete()


def test_the_audit_finds_credit_that_no_code_explains(committing_db: str) -> None:
    redeem(make_organization("acme"), create().codes[0])
    Grant.objects.filter(kind="code").update(kind="top_up")
    [finding] = audit(retain_seconds=0)
    assert "a redeemed code" in finding.invariant


def test_the_commands_make_and_redeem_codes(acme: Organization) -> None:
    created = ask("code_create", "--usd", "2.5", "--count", "2", "--expires", "30d")
    assert len(created["codes"]) == 2
    answer = ask("code_redeem", "acme", created["codes"][0])
    assert answer == {
        "grant": Grant.objects.get().pk,
        "amount_nano_usd": 2_500_000_000,
        "balance_nano_usd": 2_500_000_000,
    }
    with pytest.raises(CommandError, match="redeemed already"):
        ask("code_redeem", "acme", created["codes"][0])
    with pytest.raises(CommandError, match="no such code"):
        ask("code_redeem", "acme", "nonsense")
    assert ask("code_revoke", str(created["batch"])) == {"batch": created["batch"], "revoked": 1}
    with pytest.raises(CommandError, match="revoked"):
        ask("code_redeem", "acme", created["codes"][1])


def test_a_person_gets_one_code_a_line(acme: Organization) -> None:
    lines = say("code_create", "--usd", "1", "--count", "3").splitlines()
    assert len(lines) == 3
    assert "balance is 1.00 USD" in say("code_redeem", "acme", lines[0])
