"""Setting spend limits, and the time zone that their windows follow."""

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db.models import DateTimeField, F, Func
from django.db.models.functions import Greatest

from accounts.api_keys import UnknownApiKey
from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.models import ApiKey, Organization, Project
from accounts.organizations import organization_get
from accounts.projects import project_get
from accounts.transactions import durable, transaction_required
from billing.credit.grants import MAX_BALANCE_NANO_USD
from billing.models import SpendLimit, SpendLimitPeriod, Wallet
from billing.money import format_usd
from billing.windows import PERS, Per


class DatabaseClock(Func):
    """Workers lease by this one, which tells in which window a lease is."""

    function = "clock_timestamp"
    arity = 0
    output_field = DateTimeField()


class UnableToLimit(Refused):
    """The limit makes no sense, or its scope does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitScope:
    """What a limit bounds: a whole organization, one of its projects, or one family of keys."""

    organization: Organization
    project: Project | None = None
    api_key: ApiKey | None = None


def limit_scope_of(
    *, key: str | None = None, project: str | None = None, organization: str | None = None
) -> LimitScope:
    """The scope as commands name it: a key's prefix, ORG/PROJECT, or ORG; exactly one of them."""
    if sum(name is not None for name in (key, project, organization)) != 1:
        raise UnableToLimit("A limit is of one key, one project or one organization.")
    if key is not None:
        api_key = ApiKey.objects.select_related("organization", "family").filter(prefix=key).first()
        if api_key is None:
            raise UnknownApiKey(f"There is no API key {key!r}.")
        return LimitScope(organization=api_key.organization, api_key=api_key.family or api_key)
    if project is not None:
        slug, _, name = project.partition("/")
        if not name:
            raise UnableToLimit(f"{project!r} is no project: it is named ORG/PROJECT.")
        owner = organization_get(slug)
        return LimitScope(organization=owner, project=project_get(organization=owner, slug=name))
    assert organization is not None, "one of them is named"
    return LimitScope(organization=organization_get(organization))


@durable
def spend_limit_set(
    *, scope: LimitScope, per: Per, cap_nano_usd: int | None, actor: Actor, now: dt.datetime
) -> SpendLimit | None:
    """Bound what the scope may spend per window; None removes the bound.

    A new cap counts at once, in the window that is running. Where more is spent or set aside
    already, nothing more is given out, and calls that run are not cut. A new limit counts what is
    spent from then on.
    """
    if per not in PERS:
        raise UnableToLimit(f"A spend limit is per {', '.join(PERS)}.")
    if cap_nano_usd is not None and not 0 <= cap_nano_usd <= MAX_BALANCE_NANO_USD:
        raise UnableToLimit("A spend limit is 0 or more, and no more than a wallet can hold.")
    _workers_wait(scope.organization)
    limit = SpendLimit.objects.filter(
        organization=scope.organization,
        project=scope.project,
        api_key=scope.api_key,
        per=per,
        removed_at__isnull=True,
    ).first()
    before = None if limit is None else limit.cap_nano_usd
    if limit is None and cap_nano_usd is not None:
        limit = SpendLimit.objects.create(
            organization=scope.organization,
            project=scope.project,
            api_key=scope.api_key,
            per=per,
            cap_nano_usd=cap_nano_usd,
            created_at=now,
        )
    elif limit is not None and cap_nano_usd is None:
        limit.removed_at = now
        limit.save(update_fields=["removed_at"])
    elif limit is not None and cap_nano_usd is not None:
        limit.cap_nano_usd = cap_nano_usd
        limit.save(update_fields=["cap_nano_usd"])
        _running_window_cap(limit, cap_nano_usd)
    if limit is not None:
        _audit(limit, before, cap_nano_usd, actor)
    return limit if cap_nano_usd is not None else None


@durable
def organization_time_zone_set(*, slug: str, time_zone: str, actor: Actor) -> Organization:
    """Whose midnights the windows of the organization's limits begin and end at.

    The windows that are running end, and what was spent in them counts in the new ones, too: a
    change of zone never gives anybody a second allowance.
    """
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnableToLimit(f"{time_zone!r} is no time zone: say Europe/Berlin, or UTC.") from None
    organization = organization_get(slug)
    _workers_wait(organization)
    _windows_end(organization)
    before = organization.time_zone
    organization.time_zone = time_zone
    organization.save(update_fields=["time_zone"])
    audit_event_record(
        actor=actor,
        action="organization.time_zone",
        subject=slug,
        organization=organization,
        details={"time_zone": time_zone, "before": before},
    )
    return organization


@transaction_required
def _workers_wait(organization: Organization) -> None:
    """Take the lock under which workers lease from the organization's limits.

    It is the wallet's; who has none yet has no leases either.
    """
    Wallet.objects.select_for_update().filter(organization=organization).first()


def _running_window_cap(limit: SpendLimit, cap_nano_usd: int) -> None:
    gone = F("leased_nano_usd") + F("used_nano_usd")
    SpendLimitPeriod.objects.filter(limit=limit, period_end__gt=DatabaseClock()).update(
        cap_nano_usd=cap_nano_usd, over_nano_usd=Greatest(0, gone - cap_nano_usd)
    )


def _windows_end(organization: Organization) -> None:
    running = SpendLimitPeriod.objects.filter(
        limit__organization=organization,
        period_start__lt=DatabaseClock(),
        period_end__gt=DatabaseClock(),
    )
    running.exclude(limit__per="total").update(period_end=DatabaseClock(), cut_short=True)


def _audit(limit: SpendLimit, before: int | None, after: int | None, actor: Actor) -> None:
    def usd(amount: int | None) -> str | None:
        return None if amount is None else format_usd(amount)

    audit_event_record(
        actor=actor,
        action="spend_limit.set" if after is not None else "spend_limit.remove",
        subject=str(limit),
        organization=limit.organization,
        details={"usd": usd(after), "before_usd": usd(before), "per": limit.per},
    )
