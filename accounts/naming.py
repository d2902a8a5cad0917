"""Giving a new row its name, and a slug that nobody else has."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from django.db import IntegrityError, transaction

from accounts.errors import Refused
from accounts.transactions import transaction_required

MAX_NAME_LENGTH = 200

Row = TypeVar("Row")


class InvalidName(Refused):
    """Nobody could read that name."""


class SlugTaken(Refused):
    """Another one has that slug."""


def name_check(name: str) -> str:
    """The name without the space around it, or InvalidName."""
    name = name.strip()
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise InvalidName(f"A name is 1 to {MAX_NAME_LENGTH} printable characters long.")
    return name


@transaction_required
def insert_under_free_slug(
    slugs: Iterable[str], *, insert: Callable[[str], Row], is_taken: Callable[[str], bool]
) -> Row:
    """Insert under the first slug that is free: only the unique index knows which one is."""
    tried = ""
    for tried in slugs:
        try:
            with transaction.atomic():
                return insert(tried)
        except IntegrityError:
            if not is_taken(tried):
                raise
    raise SlugTaken(f"The slug {tried!r} is taken.")
