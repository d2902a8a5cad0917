"""Rows for tests, with defaults for all that a test does not care about."""

import datetime as dt
import itertools
import os
import uuid
from typing import Any

from accounts.api_keys import ApiKeyTerms, api_key_issue
from accounts.audit_trail import Actor
from accounts.models import ApiKey, Organization, Project, User
from billing.models import (
    Grant,
    Lease,
    LeaseSlice,
    LedgerEntry,
    UsageRecord,
    Wallet,
    Worker,
)

ACTOR = Actor(user_id=None, label="tests")

_numbers = itertools.count(1)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def uuid7_at(moment: dt.datetime) -> uuid.UUID:
    """A new UUIDv7 of that millisecond."""
    milliseconds = round(moment.timestamp() * 1000)
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return uuid.UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | random)


def make_user(email: str = "", *, password: str | None = None, **fields: Any) -> User:
    return User.objects.create_user(
        email or f"user{next(_numbers)}@example.com", password, **fields
    )


def make_organization(slug: str = "", *, balance_nano_usd: int = 0, **fields: Any) -> Organization:
    """An organization with its wallet and the project "default"; money comes as one grant."""
    slug = slug or f"organization-{next(_numbers)}"
    organization = Organization.objects.create(
        slug=slug, **{"name": slug.replace("-", " ").title(), **fields}
    )
    Project.objects.create(organization=organization, slug="default", name="Default")
    Wallet.objects.create(organization=organization)
    if balance_nano_usd:
        make_grant(organization, amount_nano_usd=balance_nano_usd)
    return organization


def make_grant(organization: Organization, *, amount_nano_usd: int, **fields: Any) -> Grant:
    """A grant whose money is all in the wallet."""
    wallet = Wallet.objects.get(organization=organization)
    wallet.balance_nano_usd += amount_nano_usd
    wallet.save()
    values = {"kind": Grant.Kind.TOP_UP, "free_nano_usd": amount_nano_usd, **fields}
    return Grant.objects.create(
        organization=organization, amount_nano_usd=amount_nano_usd, **values
    )


def make_project(organization: Organization, slug: str) -> Project:
    return Project.objects.create(organization=organization, slug=slug, name=slug.title())


def make_api_key(
    organization: Organization, *, project: Project | None = None, **terms: Any
) -> tuple[ApiKey, str]:
    """The stored key, and its text."""
    if project is None:
        project = organization.projects.get(slug="default")
    issued = api_key_issue(terms=ApiKeyTerms(project=project, **terms), actor=ACTOR, now=now())
    return issued.api_key, issued.key


def make_worker(**fields: Any) -> Worker:
    values = {
        "id": uuid7_at(now()),
        "node": "node-1",
        "pid": 1000 + next(_numbers),
        "expires_at": now() + dt.timedelta(seconds=60),
    }
    return Worker.objects.create(**{**values, **fields})


def make_lease(
    grant: Grant, *, granted_nano_usd: int, spent_nano_usd: int = 0, worker: Worker | None = None
) -> Lease:
    """An open lease that the grant funds; its money leaves the wallet."""
    wallet = Wallet.objects.get(organization=grant.organization_id)
    wallet.balance_nano_usd -= granted_nano_usd
    wallet.save()
    grant.free_nano_usd -= granted_nano_usd
    grant.leased_nano_usd += granted_nano_usd
    grant.save()
    lease = Lease.objects.create(
        id=uuid7_at(now()),
        worker=worker or make_worker(),
        organization_id=grant.organization_id,
        granted_nano_usd=granted_nano_usd,
        spent_nano_usd=spent_nano_usd,
        usable_until=now() + dt.timedelta(hours=1),
    )
    LeaseSlice.objects.create(
        lease=lease, position=0, grant=grant, amount_nano_usd=granted_nano_usd
    )
    return lease


def make_late_settlement(
    organization: Organization, *, at: dt.datetime, covered: int = 30, written_off: int = 12
) -> None:
    """A call of a lost worker, of which the wallet paid the one part and the operator the other."""
    posting = uuid.uuid4()
    legs = (("wallet", -covered), ("write_off", -written_off), ("revenue", covered + written_off))
    LedgerEntry.objects.bulk_create(
        LedgerEntry(
            posting=posting,
            sequence=sequence,
            account=account,
            organization=organization,
            amount_nano_usd=amount,
            reason="late_settlement",
            created_at=at,
        )
        for sequence, (account, amount) in enumerate(legs)
    )


def make_usage_record(
    organization: Organization, *, at: dt.datetime | None = None, **fields: Any
) -> UsageRecord:
    return UsageRecord.objects.create(**usage_record_values(organization, at=at, **fields))


def usage_record_values(
    organization: Organization, *, at: dt.datetime | None = None, **fields: Any
) -> dict[str, Any]:
    """A completed call, as `UsageRecord(**values)` takes it."""
    at = at or now()
    project = fields.pop("project", None) or organization.projects.order_by("id").first()
    values: dict[str, Any] = {
        "request_id": uuid7_at(at),
        "worker_id": uuid.UUID(int=1),
        "journal_offset": next(_numbers),
        "organization_id": organization.pk,
        "project_id": project.pk if project else 0,
        "api_key_id": 1,
        "api_key_prefix": "sk-abcdefgh",
        "endpoint": "chat/completions",
        "model": "gpt-4o",
        "upstream_model": "gpt-4o",
        "channel": "openai",
        "stream": False,
        "status": 200,
        "outcome": UsageRecord.Outcome.COMPLETED,
        "usage_source": UsageRecord.UsageSource.UPSTREAM,
        "flags": [],
        "prompt_tokens": 1000,
        "cached_tokens": 0,
        "completion_tokens": 1000,
        "reasoning_tokens": 0,
        "units": {"input_tokens": 1000, "output_tokens": 1000},
        "service_tier": "",
        "price_id": 1,
        "discount_ppm": 500_000,
        "lease_id": uuid.UUID(int=2),
        "limit_lease_ids": [],
        "hold_nano_usd": 50_000_000,
        "official_cost_nano_usd": 40_000_000,
        "charge_nano_usd": 20_000_000,
        "upstream_cost_nano_usd": 16_000_000,
        "upstream_request_id": "",
        "retry_count": 0,
        "first_byte_ms": None,
        "duration_ms": 1000,
        "created_at": at,
        "settled_at": at + dt.timedelta(seconds=1),
    }
    return {**values, **fields}
