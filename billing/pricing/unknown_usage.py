"""Counts in a `usage` object that no reader knows yet: kept and shown, never lost.

As part of a total such tokens are billed at that total's rate. What upstream counts beside its
totals costs nothing extra until somebody has looked at it.
"""

from collections.abc import Mapping
from typing import Any

from billing.pricing.counts import UNKNOWN_PREFIX, most_units

_KINDS = frozenset({"audio_tokens", "image_tokens", "text_tokens"})
_INPUT: Mapping[str, Any] = {
    **dict.fromkeys(_KINDS | {"cached_tokens", "cache_write_tokens"}),
    "cached_tokens_details": dict.fromkeys(_KINDS),
}
_OUTPUT: Mapping[str, Any] = dict.fromkeys(
    _KINDS | {"reasoning_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens"}
)
# What the readers know, of all endpoints together: a breakdown has its own members, a count None.
_KNOWN: Mapping[str, Any] = {
    "prompt_tokens": None,
    "completion_tokens": None,
    "total_tokens": None,
    "input_tokens": None,
    "output_tokens": None,
    "seconds": None,
    "prompt_tokens_details": _INPUT,
    "input_tokens_details": _INPUT,
    "input_token_details": _INPUT,
    "completion_tokens_details": _OUTPUT,
    "output_tokens_details": _OUTPUT,
}
# The counts of each breakdown; what has a breakdown of its own is not among them.
_FLAT = {
    name: {key for key, inner in known.items() if inner is None}
    for name, known in _KNOWN.items()
    if known is not None
}
_COUNTED = ("_tokens", "_calls", "_requests", "_queries", "_searches", "_sessions", "_images")
_NOTHING_KNOWN: Mapping[str, Any] = {}
_MAX_KEPT = 20
_MAX_PATH = 80


def unknown_usage_keys(raw: object) -> tuple[str, ...]:
    """The paths of counts that no reader knows, for the operator's attention."""
    return tuple(sorted(path for path, _ in _unknown(raw)))


def unknown_usage_counts(raw: object) -> dict[str, int]:
    """The same with what was counted, as units of a usage record that have no price."""
    counts = {f"{UNKNOWN_PREFIX}{path[:_MAX_PATH]}": count for path, count in _unknown(raw)}
    kept = sorted(name for name, count in counts.items() if 0 < count <= most_units(name))
    return {name: counts[name] for name in kept[:_MAX_KEPT]}


def _unknown(raw: object) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    if isinstance(raw, Mapping) and not _is_known(raw):
        _collect(raw, _KNOWN, "", found)
    return found


def _is_known(raw: Mapping[Any, Any]) -> bool:
    """Whether there is nothing in it to look at one by one."""
    return raw.keys() <= _KNOWN.keys() and all(
        not isinstance(raw[name], Mapping) or raw[name].keys() <= _FLAT[name]
        for name in raw.keys() & _FLAT.keys()
    )


def _collect(
    counts: Mapping[Any, Any], known: Mapping[str, Any], path: str, found: list[tuple[str, int]]
) -> None:
    for key, value in counts.items():
        if key in known:
            if known[key] is not None and isinstance(value, Mapping):
                _collect(value, known[key], f"{path}{key}.", found)
        elif not value or not isinstance(key, str):
            continue
        elif isinstance(value, Mapping):
            if len(path) < _MAX_PATH:  # Nobody nests usage deeply, but someone could.
                _collect(value, _NOTHING_KNOWN, f"{path}{key}.", found)
        elif key.endswith(_COUNTED) or key.startswith("num_"):
            found.append((f"{path}{key}", value if type(value) is int else 0))
