"""Redemption codes: made in batches, shown once, redeemed once, whoever races for them."""

import datetime as dt
import hmac
import secrets
from dataclasses import dataclass, field

from django.conf import settings

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.transactions import durable
from billing.credit.balance import balance_nano_usd
from billing.credit.grants import MAX_BALANCE_NANO_USD, Credit, Credited, grant_add
from billing.models import CodeBatch, Grant, RedemptionCode
from billing.money import format_usd

MAX_CODES_PER_BATCH = 10_000
MAX_NOTE_LENGTH = 300
GROUPS, GROUP_LENGTH = 4, 5  # 20 characters of 32: 100 bits, nothing that anybody can guess.

# Without I, L, O and U: what people misread or would rather not read.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_AS_READ = str.maketrans({"I": "1", "L": "1", "O": "0", "-": None, " ": None, "\t": None})


class UnableToCreateCodes(Refused):
    """The batch makes no sense."""


class UnableToRedeem(Refused):
    """The code is unknown, used, expired or revoked."""


@dataclass(frozen=True, slots=True)
class CreatedCodes:
    """The stored batch, and its codes, which are not stored and never to be had again."""

    batch: CodeBatch
    codes: list[str] = field(repr=False)


@durable
def codes_create(
    *,
    amount_nano_usd: int,
    count: int,
    expires_at: dt.datetime | None,
    actor: Actor,
    now: dt.datetime,
    note: str = "",
) -> CreatedCodes:
    """Make a batch of codes; raises UnableToCreateCodes."""
    if not 0 < amount_nano_usd <= MAX_BALANCE_NANO_USD:
        raise UnableToCreateCodes("A code is worth more than 0, and no more than a wallet holds.")
    if not 1 <= count <= MAX_CODES_PER_BATCH:
        raise UnableToCreateCodes(f"A batch has 1 to {MAX_CODES_PER_BATCH} codes.")
    if expires_at is not None and expires_at <= now:
        raise UnableToCreateCodes("Codes that have expired already are of no use.")
    if len(note) > MAX_NOTE_LENGTH:
        raise UnableToCreateCodes(f"A note is at most {MAX_NOTE_LENGTH} characters long.")
    batch = CodeBatch.objects.create(
        amount_nano_usd=amount_nano_usd,
        count=count,
        note=note,
        expires_at=expires_at,
        created_at=now,
    )
    codes = [_generate() for _ in range(count)]
    RedemptionCode.objects.bulk_create(
        RedemptionCode(batch=batch, digest=_digest(code), last4=code[-4:]) for code in codes
    )
    audit_event_record(
        actor=actor,
        action="code.create",
        subject=f"{batch}: {count} codes of {format_usd(amount_nano_usd)} USD",
        details={
            "batch": batch.pk,
            "count": count,
            "amount_nano_usd": amount_nano_usd,
            "expires_at": expires_at.isoformat() if expires_at else None,
            "note": note,
        },
    )
    return CreatedCodes(batch=batch, codes=codes)


@durable
def code_redeem(*, organization_id: int, code: str, actor: Actor, now: dt.datetime) -> Credited:
    """Turn the code into a grant of the organization; raises UnableToRedeem.

    Of any number who try at once, one gets the row's lock before it is redeemed.
    """
    row = RedemptionCode.objects.select_for_update().filter(digest=_digest(code)).first()
    if row is None:
        raise UnableToRedeem("There is no such code.")
    if row.redeemed_at is not None:
        raise UnableToRedeem("This code was redeemed already.")
    # Read only now, behind the lock: whoever revoked the batch had it before us.
    if row.batch.revoked_at is not None:
        raise UnableToRedeem("This code was revoked.")
    if row.batch.expires_at is not None and row.batch.expires_at <= now:
        raise UnableToRedeem("This code has expired.")
    credit = Credit(
        organization_id=organization_id,
        amount_nano_usd=row.batch.amount_nano_usd,
        kind=Grant.Kind.CODE,
        reason=f"code {row} of {row.batch}",
    )
    grant = grant_add(credit=credit, actor=actor, now=now)
    row.redeemed_at, row.organization_id, row.grant = now, organization_id, grant
    row.save(update_fields=["redeemed_at", "organization", "grant"])
    return Credited(grant=grant, balance_nano_usd=balance_nano_usd(organization_id))


@durable
def code_batch_revoke(*, batch_id: int, actor: Actor, now: dt.datetime) -> int:
    """Make the batch's unused codes worthless for ever; returns how many those were."""
    batch = CodeBatch.objects.select_for_update().filter(pk=batch_id).first()
    if batch is None:
        raise UnableToRedeem(f"There is no batch {batch_id} of codes.")
    if batch.revoked_at is not None:
        return 0
    # Whoever is redeeming one of them now comes to an end first, so the count is exact.
    codes = batch.codes.select_for_update().filter(redeemed_at__isnull=True)
    unused = len(codes.order_by("id").values_list("pk", flat=True))
    batch.revoked_at = now
    batch.save(update_fields=["revoked_at"])
    audit_event_record(
        actor=actor,
        action="code.revoke",
        subject=str(batch),
        details={"batch": batch.pk, "unused": unused},
    )
    return unused


def _generate() -> str:
    characters = [secrets.choice(_ALPHABET) for _ in range(GROUPS * GROUP_LENGTH)]
    groups = [characters[i : i + GROUP_LENGTH] for i in range(0, len(characters), GROUP_LENGTH)]
    return "-".join("".join(group) for group in groups)


def _digest(code: str) -> bytes:
    """What a code is found by, however it was typed: in small letters, without its hyphens."""
    plain = code.strip().upper().translate(_AS_READ)
    # Apart from the digests of keys, which have the same pepper.
    return hmac.digest(settings.KEY_PEPPER.encode(), b"code:" + plain.encode(), "sha256")
