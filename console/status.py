"""How the models are: what the status page says, to anybody, and never more than a minute old.

It tells shares and times, no numbers of calls and nothing of any customer. However many people look
at it, a process asks the database once a minute.
"""

import datetime as dt
import threading
import time
from collections.abc import Sequence
from typing import TypedDict

from django.conf import settings
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from billing.models import CallHour
from billing.usage.call_hours import HOUR, call_hours, calls_now, hour_of
from billing.usage.health import Health, grouped, health_of

FRESH_SECONDS = 60
NOW = dt.timedelta(minutes=15)
HOURS, DAYS = 24, 7
DEGRADED, OUTAGE = 0.98, 0.5
# Fewer calls say nothing of an outage.
LEAST_CALLS = 3
SENTENCES = {
    "operational": "All models answer.",
    "degraded": "Some calls fail.",
    "outage": "At least one model does not answer.",
    "quiet": "Nobody has called for a while.",
}
_GRAVITY = ("quiet", "operational", "degraded", "outage")


class HourState(TypedDict):
    hour: str
    state: str
    success_percent: float | None


class ModelStatus(TypedDict):
    model: str
    state: str
    success_percent_24h: float | None
    success_percent_7d: float | None
    duration_p50_ms: int | None
    duration_p95_ms: int | None
    first_token_p50_ms: int | None
    first_token_p95_ms: int | None
    hours: list[HourState]


class Status(TypedDict):
    state: str
    as_of: str
    models: list[ModelStatus]


class StatusCache:
    """One reader refreshes what is too old; the others get what there is, or wait for the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: Status | None = None
        self._fresh_until = 0.0

    def get(self) -> Status:
        """Raises DatabaseError where there never was an answer."""
        if self._found is not None and time.monotonic() < self._fresh_until:
            return self._found
        if not self._lock.acquire(blocking=self._found is None):
            assert self._found is not None, "only then it does not wait"
            return self._found
        try:
            if self._found is None or time.monotonic() >= self._fresh_until:
                self._refresh()
            assert self._found is not None, "it was refreshed, or raised"
            return self._found
        finally:
            self._lock.release()

    def _refresh(self) -> None:
        # Also after a failure: a database in need is not asked by each reader.
        self._fresh_until = time.monotonic() + FRESH_SECONDS
        try:
            self._found = status_now(timezone.now())
        except DatabaseError:
            if self._found is None:
                raise


cache = StatusCache()


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    status = _found()
    context = {
        "brand": settings.BRAND,
        "status": status,
        "sentence": SENTENCES[status["state"]],
        "hours": HOURS,
        "status_page": True,
    }
    response = render(request, "console/status.html", context)
    response["cache-control"] = f"public, max-age={FRESH_SECONDS}"
    return response


@require_safe
def document(request: HttpRequest) -> HttpResponse:  # noqa: ARG001  Django passes it.
    response = JsonResponse(_found())
    response["cache-control"] = f"public, max-age={FRESH_SECONDS}"
    response["access-control-allow-origin"] = "*"
    return response


def _found() -> Status:
    if not settings.STATUS_PAGE:
        raise Http404
    return cache.get()


def status_now(now: dt.datetime) -> Status:
    """Read it all: the hours of a week, and the last minutes from the records."""
    until = hour_of(now) + HOUR
    week = grouped(call_hours(since=until - DAYS * HOURS * HOUR, until=until).rows, _model)
    recent = grouped(calls_now(since=now - NOW, until=until) or (), _model)
    models = [
        _model_status(name, rows, recent.get(name, []), until)
        for name, rows in sorted(week.items())
        if name  # Who asks for what upstream keeps names no model.
    ]
    states = [one["state"] for one in models]
    return Status(
        state=max(states, key=_GRAVITY.index, default="quiet"),
        as_of=now.isoformat(timespec="seconds"),
        models=models,
    )


def _model(row: CallHour) -> str:
    return row.model


def _model_status(
    name: str, rows: Sequence[CallHour], recent: Sequence[CallHour], until: dt.datetime
) -> ModelStatus:
    week = health_of(rows)
    day = health_of(row for row in rows if row.hour >= until - HOURS * HOUR)
    by_hour = grouped(rows, lambda row: row.hour.isoformat())
    hours = [until - number * HOUR for number in range(HOURS, 0, -1)]
    return ModelStatus(
        model=name,
        state=_state(health_of(recent)),
        success_percent_24h=_percent(day),
        success_percent_7d=_percent(week),
        duration_p50_ms=day.duration_ms(0.5),
        duration_p95_ms=day.duration_ms(0.95),
        first_token_p50_ms=day.first_token_ms(0.5),
        first_token_p95_ms=day.first_token_ms(0.95),
        hours=[_hour(hour, by_hour.get(hour.isoformat(), [])) for hour in hours],
    )


def _hour(hour: dt.datetime, rows: Sequence[CallHour]) -> HourState:
    health = health_of(rows)
    return HourState(
        hour=f"{hour:%Y-%m-%dT%H:%MZ}", state=_state(health), success_percent=_percent(health)
    )


def _state(health: Health) -> str:
    success = health.success
    if success is None:
        return "quiet"
    if success < OUTAGE and health.failed >= LEAST_CALLS:
        return "outage"
    return "degraded" if success < DEGRADED else "operational"


def _percent(health: Health) -> float | None:
    """Rounded down: 100 means that no call failed."""
    if not health.calls:
        return None
    return int(10_000 * health.served // health.calls) / 100
