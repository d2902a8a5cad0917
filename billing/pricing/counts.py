"""What is sold by another unit than the token: characters, milliseconds, images, calls of tools.

A unit has a name, and each thing that a call used is counted under exactly one name or as tokens.
The names are free, so that upstream may invent units; those that have a price are in `units`.
"""

from collections.abc import Iterator, Mapping

from typing_extensions import override

# Eleven days of audio in milliseconds, and more images or calls than any reply has: beyond it,
# upstream's figure is no figure.
MAX_UNITS = 1_000_000_000
MAX_THINGS = 1_000_000
# What upstream counted and no meter knows is kept under this prefix; see unknown_usage_counts.
UNKNOWN_PREFIX = "unknown/"

_MEASURED = ("characters", "_milliseconds", "_tokens")
_MAX_NAME = 100


class AbsurdUsage(ValueError):
    """The reported usage cannot be true; `reason` says why. Such a call is billed by estimate."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Counts(Mapping[str, int]):
    """Units by name, none of them empty. It never changes, and can thus be a default."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        self._counts = {
            name: count for name, count in (counts or {}).items() if _checked(name, count)
        }

    @override
    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    @override
    def __len__(self) -> int:
        return len(self._counts)

    @override
    def __hash__(self) -> int:
        return hash(frozenset(self._counts.items()))

    @override
    def __repr__(self) -> str:
        return f"Counts({self._counts!r})"


# The one instance without units: of text, which is nearly every call, `is` tells it at no cost.
NO_COUNTS = Counts()


def most_units(name: str) -> int:
    """The most of this unit that a call can have used."""
    return MAX_UNITS if name.endswith(_MEASURED) else MAX_THINGS


def _checked(name: str, count: int) -> int:
    if not 0 < len(name) <= _MAX_NAME:
        raise AbsurdUsage("a unit has no name, or too long a one")
    if name.endswith("_tokens") and not name.startswith(UNKNOWN_PREFIX):
        raise AbsurdUsage("tokens have buckets of their own")
    if type(count) is not int or not 0 <= count <= most_units(name):
        raise AbsurdUsage(f"{name} are no count of units")
    return count
