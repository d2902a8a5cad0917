"""Which of the lines of spend limits, 80 and 100 %, are crossed: what alerts tell of."""

import datetime as dt
from collections.abc import Iterator
from typing import Final, NamedTuple

from billing.limits.states import LimitState, limit_states, limits_in_force

LINES_PERCENT: Final = (100, 80)
# What was spent just before a window ended is shipped, and looked at, when it is over.
LOOK_BACK: Final = dt.timedelta(hours=1)


class Crossing(NamedTuple):
    organization_id: int
    # The same for whoever looks, and another one for each line, window and cap.
    name: str
    facts: dict[str, str | int]


def limits_crossed(organizations: list[int], *, now: dt.datetime) -> Iterator[Crossing]:
    """The highest line that each limit has crossed, in the running window and the one before."""
    limits = list(limits_in_force().filter(organization__in=organizations))
    for at in (now, now - LOOK_BACK):
        for state in limit_states([limit for limit in limits if limit.created_at <= at], now=at):
            line = next((line for line in LINES_PERCENT if state.used_percent >= line), None)
            if line is not None:
                yield Crossing(state.limit.organization_id, _name(state, line), _facts(state, line))


def _name(state: LimitState, line: int) -> str:
    limit = state.limit
    return f"limit {limit.pk} {state.window.start:%Y-%m-%d %H:%M} {line} of {limit.cap_nano_usd}"


def _facts(state: LimitState, line: int) -> dict[str, str | int]:
    resets_at = state.resets_at
    facts: dict[str, str | int] = {
        "scope": state.limit.scope,
        "percent": line,
        "limit_nano_usd": state.limit.cap_nano_usd,
        "used_nano_usd": state.used_nano_usd,
        "per": state.limit.per,
    }
    return facts | ({"resets_at": resets_at.isoformat()} if resets_at else {})
