"""Which operation a URL path means, under any base URL that clients are given or make up.

Users type base URLs with and without `/v1`, with a slash too many or with the whole endpoint, and
clients append to what was typed. All of that is folded here, because a redirect would turn a POST
into a GET.
"""

from typing import Final, NamedTuple

from accounts.slugs import RESERVED_SLUGS
from relay.endpoints.table import ENDPOINTS, ID

__all__ = ["RESERVED_SLUGS", "Match", "allowed_methods", "is_known_elsewhere", "match"]


class Match(NamedTuple):
    """An operation, and whose: `organization` and `project` are the slugs in the URL, if any."""

    operation: str
    organization: str | None
    project: str | None
    argument: str | None
    """The id in the path; that of `/models/{id}` may contain slashes and colons."""
    rest: str
    """The folded path behind the prefix."""


_OPERATIONS: Final = {
    **{row.path: row.operation for row in ENDPOINTS if ID not in row.path},
    ("models",): "models",
    ("usage",): "usage",
    ("usage", "records"): "usage_records",
    ("alerts",): "alerts",
    ("dashboard", "billing", "usage"): "billing_usage",
    ("dashboard", "billing", "subscription"): "billing_subscription",
    ("dashboard", "billing", "credit_grants"): "billing_credit_grants",
}
# Paths with an id in them, looked at where no other fits.
_PATTERNS: Final = (
    *{row.path: row.operation for row in ENDPOINTS if ID in row.path}.items(),
    (("alerts", ID), "alert"),
)
_READ: Final = ("GET", "HEAD")
_METHODS: Final = {
    **dict.fromkeys(_OPERATIONS.values(), _READ),
    "model": _READ,
    "alerts": (*_READ, "POST"),
    "alert": ("DELETE",),
    **{
        row.operation: tuple(r.method for r in ENDPOINTS if r.operation == row.operation)
        for row in ENDPOINTS
    },
    "unknown": (),
}
# First segments of what OpenAI offers and this gateway does not, or not all of it.
_ELSEWHERE: Final = frozenset(
    {
        "assistants",
        "audio",
        "batches",
        "chat",
        "chatkit",
        "containers",
        "content_provenance_checks",
        "conversations",
        "evals",
        "files",
        "fine_tuning",
        "images",
        "organization",
        "projects",
        "realtime",
        "responses",
        "skills",
        "threads",
        "uploads",
        "vector_stores",
        "videos",
    }
)
_PREFIXES: Final = (
    ("v1",),
    ("openai", "v1"),
    ("openai",),
    ("api", "openai", "v1"),
    ("api", "openai"),
)
_MARKER: Final = "openai"
# What some apps call the "API URL" is the whole endpoint, and to that others append theirs.
_TYPED_AS_BASE: Final = (("chat", "completions"), ("completions",), ("responses",), ("embeddings",))

# First segments of OpenAI's paths that clients without `/v1` in their base URL call. The other
# applications of the gateway live beside them, so nothing else is taken from them.
_BARE: Final = frozenset(
    {"audio", "completions", "embeddings", "images", "models", "moderations", "responses"}
)


def match(path: str) -> Match | None:
    """The operation of a path that the server has percent-decoded; None if it is not the relay's.

    A path under a relay prefix that is not offered is the operation "unknown".
    """
    return _COMMON.get(path) or _match(path)


def allowed_methods(operation: str) -> tuple[str, ...]:
    """Empty for "unknown". OPTIONS is answered before any path is looked at."""
    return _METHODS[operation]


def is_known_elsewhere(rest: str) -> bool:
    """Whether an unknown path, behind its prefix, is at least of a family that OpenAI has."""
    return rest[1:].partition("/")[0] in _ELSEWHERE


def _match(path: str) -> Match | None:
    segments = tuple(segment for segment in path.split("/") if segment)
    bare = _match_bare(segments)
    if bare is not None:
        return bare
    prefix = max((p for p in _PREFIXES if segments[: len(p)] == p), key=len, default=None)
    if prefix is None:
        return None
    rest = _without_versions(segments[len(prefix) :])
    if prefix == ("v1",) and _names_project(rest):
        organization, project, _, *behind = rest
        return _operation(_without_versions(tuple(behind)), organization, project)
    return _operation(rest, None, None)


def _match_bare(segments: tuple[str, ...]) -> Match | None:
    if (
        (segments and segments[0] in _BARE)
        or segments[:2] == ("chat", "completions")
        or (segments[:2] == ("dashboard", "billing") and segments in _OPERATIONS)
    ):
        return _operation(segments, None, None)
    return None


def _names_project(segments: tuple[str, ...]) -> bool:
    # `/v1/models/acme/openai` is a model, because no organization may be called "models".
    return (
        len(segments) > 2  # noqa: PLR2004 - Organization, project and the marker behind them.
        and segments[2] == _MARKER
        and segments[0] not in RESERVED_SLUGS
    )


def _without_versions(segments: tuple[str, ...]) -> tuple[str, ...]:
    while segments[:1] == ("v1",):
        segments = segments[1:]
    return segments


def _operation(segments: tuple[str, ...], organization: str | None, project: str | None) -> Match:
    segments = _without_endpoint(segments)
    operation, argument = _named(segments)
    return Match(operation, organization, project, argument, "/" + "/".join(segments))


def _without_endpoint(segments: tuple[str, ...]) -> tuple[str, ...]:
    """The path behind an endpoint that somebody typed whole as the base URL."""
    typed = True
    while typed:
        typed = False
        for endpoint in _TYPED_AS_BASE:
            behind = _without_versions(segments[len(endpoint) :])
            if segments[: len(endpoint)] == endpoint and _is_called(behind):
                segments, typed = behind, True
    return segments


def _is_called(segments: tuple[str, ...]) -> bool:
    return segments in _OPERATIONS or any(
        segments[: len(endpoint)] == endpoint for endpoint in _TYPED_AS_BASE
    )


def _named(segments: tuple[str, ...]) -> tuple[str, str | None]:
    """The operation, and the id that the path names."""
    if ".." in segments or "." in segments:
        return "unknown", None
    if segments[:1] == ("models",) and len(segments) > 1:
        return "model", "/".join(segments[1:])
    operation = _OPERATIONS.get(segments)
    if operation is not None:
        return operation, None
    for path, pattern_operation in _PATTERNS:
        at = path.index(ID)
        if len(path) == len(segments) and path == (*segments[:at], ID, *segments[at + 1 :]):
            return pattern_operation, segments[at]
    return "unknown", None


def _common() -> dict[str, Match]:
    """The paths that need no folding, for nearly every call."""
    prefixes = ("", *("/" + "/".join(prefix) for prefix in _PREFIXES))
    paths = [prefix + "/" + "/".join(end) for prefix in prefixes for end in _OPERATIONS]
    found = {path: _match(path) for path in paths}
    return {path: matched for path, matched in found.items() if matched is not None}


_COMMON: Final = _common()
