"""Comparing a channel's calls with upstream's own books, day by day and model by model."""

import asyncio
import datetime as dt
import logging
from dataclasses import asdict

from django.conf import settings
from django.db import transaction

from accounts.errors import Refused
from billing.money import parse_fraction_ppm
from billing.usage.queries import DayRange, channel_usage
from relay.channels.credentials import UnknownChannel
from relay.channels.encryption import credential_decrypt
from relay.channels.trial import routes_in_use
from relay.models import Channel, Reconciliation
from relay.reconciliation.figures import ALL, NOTHING, Figures, drifts, named_alike
from relay.reconciliation.upstream_books import Books, upstream_books

log = logging.getLogger(__name__)

MAX_DAYS = 92
# Upstream's books are complete some hours after a day is over; so each is compared three times.
DAILY_DAYS = 3
ALARM_DAYS = 7


class UnableToReconcile(Refused):
    """There is nothing to compare with, or the days make no sense."""


def reconcile(
    *, channel: str, first: dt.date, last: dt.date, now: dt.datetime
) -> list[Reconciliation]:
    """Ask upstream, compare, and keep what came out in the place of what was kept of these days.

    Raises UnknownChannel, UnableToReconcile, UnreadableBooks, UnusableTerms.
    """
    found = Channel.objects.filter(name=channel).first()
    if found is None:
        raise UnknownChannel(f"There is no channel {channel!r}.")
    if found.kind != Channel.Kind.OPENAI:
        raise UnableToReconcile(f"The channel {channel!r} is Azure's, which keeps no such books.")
    if not found.admin_key_encrypted:
        raise UnableToReconcile(
            f"The channel {channel!r} has no admin key: channel_set {channel} --admin-key-env VAR."
        )
    if not first <= last < now.astimezone(dt.UTC).date() + dt.timedelta(days=1):
        raise UnableToReconcile("The days are the first and the last one, until today in UTC.")
    if (last - first).days >= MAX_DAYS:
        raise UnableToReconcile(f"At most {MAX_DAYS} days are compared at once.")
    [route, *_] = asyncio.run(routes_in_use(channel))
    admin_key = credential_decrypt(bytes(found.admin_key_encrypted))
    theirs = upstream_books(route, admin_key, first=first, last=last)
    rows = _compared(found, _our_books(channel, first, last), theirs, now)
    with transaction.atomic(durable=True):
        # Two who compare the same days take turns; what the later one found stays.
        Channel.objects.select_for_update().get(pk=found.pk)
        Reconciliation.objects.filter(channel=found, day__range=(first, last)).delete()
        Reconciliation.objects.bulk_create(rows)
    return rows


def reconcile_all(*, now: dt.datetime) -> None:
    """Compare the last days of every channel with an admin key; drifts are alarms in the log."""
    yesterday = now.astimezone(dt.UTC).date() - dt.timedelta(days=1)
    first = yesterday - dt.timedelta(days=DAILY_DAYS - 1)
    channels = Channel.objects.filter(enabled=True, admin_key_encrypted__isnull=False)
    for name in channels.order_by("name").values_list("name", flat=True):
        try:
            rows = reconcile(channel=name, first=first, last=yesterday, now=now)
        except Refused as refusal:
            log.error("Channel %s was not reconciled: %s", name, refusal)  # noqa: TRY400  Its sentence is enough.
            continue
        for row in rows:
            if row.drifts:
                log.critical("Upstream's books differ from ours: %s: %s", row, row.drifts)


def drifting(*, now: dt.datetime) -> int:
    """How many comparisons of the last days are an alarm."""
    since = now.astimezone(dt.UTC).date() - dt.timedelta(days=ALARM_DAYS)
    return Reconciliation.objects.filter(day__gte=since).exclude(drifts=[]).count()


def drift_threshold_ppm() -> int:
    return parse_fraction_ppm(settings.RECONCILE_DRIFT)


def _our_books(channel: str, first: dt.date, last: dt.date) -> Books:
    books: Books = {}
    for day, model, totals, cost in channel_usage(channel, DayRange(first, last)):
        books[day, model] = Figures(
            requests=totals.requests,
            input_tokens=totals.prompt_tokens,
            output_tokens=totals.completion_tokens,
            cost_nano_usd=cost,
        )
        books[day, ALL] = books.get((day, ALL), Figures()) + Figures(cost_nano_usd=cost)
    return books


def _compared(
    channel: Channel, ours: Books, theirs: Books, now: dt.datetime
) -> list[Reconciliation]:
    threshold_ppm = drift_threshold_ppm()
    rows = []
    for day in sorted({day for day, _ in (*ours, *theirs)}):
        mine = {model: figures for (when, model), figures in ours.items() if when == day}
        told = {model: figures for (when, model), figures in theirs.items() if when == day}
        told = named_alike(told, mine)
        for model in sorted({*mine, *told}):
            one, other = mine.get(model, NOTHING), told.get(model, NOTHING)
            rows.append(
                Reconciliation(
                    channel=channel,
                    day=day,
                    model=model,
                    **asdict(one),
                    **{f"upstream_{name}": value for name, value in asdict(other).items()},
                    drifts=drifts(one, other, threshold_ppm=threshold_ppm),
                    compared_at=now,
                )
            )
    return rows
