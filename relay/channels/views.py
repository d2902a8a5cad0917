"""What may be shown of the channels: everything but their secrets."""

from typing import TypedDict

from billing.money import format_ppm, format_usd
from relay.models import Channel, ChannelCredential


class CheckView(TypedDict):
    """What the last regular check of a credential found; the balance is in upstream's currency."""

    credential: str
    checked_at: str
    ok: bool
    status: int | None
    duration_ms: int
    error: str
    balance: str | None
    balance_currency: str
    balance_is_low: bool
    balance_error: str


class ChannelView(TypedDict):
    channel: str
    kind: str
    base_url: str
    enabled: bool
    disabled_reason: str
    priority: int
    weight: int
    concurrency: int
    models: list[str] | None
    model_map: list[str]
    credentials: list[str]
    credentials_disabled: list[str]
    credentials_refused: list[str]
    checks: list[CheckView]
    cost: str
    balance: str
    balance_low: str | None
    proxy: str
    headers: list[str]
    http2: bool
    api_version: str


def channel_list() -> list[ChannelView]:
    """Every channel, in the order in which they are tried."""
    rows = Channel.objects.prefetch_related("models", "credentials__check_made")
    return [channel_view(row) for row in rows.order_by("-enabled", "-priority", "name")]


def channel_view(row: Channel) -> ChannelView:
    served = sorted(row.models.all(), key=lambda one: one.model)
    credentials = sorted(row.credentials.all(), key=lambda one: one.pk)
    return ChannelView(
        channel=row.name,
        kind=row.kind,
        base_url=row.base_url,
        enabled=row.enabled,
        disabled_reason=row.disabled_reason,
        priority=row.priority,
        weight=row.weight,
        concurrency=row.concurrency,
        models=None if row.serves_all_models else [one.model for one in served],
        model_map=[
            f"{one.model}={one.upstream_model}" for one in served if one.model != one.upstream_model
        ],
        credentials=[one.label for one in credentials if one.enabled],
        credentials_disabled=[one.label for one in credentials if not one.enabled],
        credentials_refused=[one.label for one in credentials if one.refused_at],
        checks=[_check_view(one) for one in credentials if hasattr(one, "check_made")],
        cost=format_ppm(row.cost_ppm),
        balance=row.balance,
        balance_low=None if row.balance_low_nano is None else format_usd(row.balance_low_nano),
        proxy=row.proxy,
        headers=row.header_names,
        http2=row.http2,
        api_version=row.api_version,
    )


def _check_view(credential: ChannelCredential) -> CheckView:
    check = credential.check_made
    return CheckView(
        credential=credential.label,
        checked_at=check.checked_at.isoformat(timespec="seconds"),
        ok=not check.error,
        status=check.status,
        duration_ms=check.duration_ms,
        error=check.error,
        balance=None if check.balance_nano is None else format_usd(check.balance_nano),
        balance_currency=check.balance_currency,
        balance_is_low=check.low_since is not None,
        balance_error=check.balance_error,
    )
