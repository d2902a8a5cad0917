"""What may be shown of the channels: everything but their secrets."""

from typing import TypedDict

from relay.models import Channel


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
    proxy: str
    headers: list[str]
    http2: bool
    api_version: str


def channel_list() -> list[ChannelView]:
    """Every channel, in the order in which they are tried."""
    rows = Channel.objects.prefetch_related("models", "credentials")
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
        proxy=row.proxy,
        headers=row.header_names,
        http2=row.http2,
        api_version=row.api_version,
    )
