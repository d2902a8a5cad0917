"""Rows past every model and service, to try what the database itself refuses."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction

Row = dict[str, Any]


@dataclass(frozen=True)
class Break:
    """Changes to a valid row that the named constraint must refuse.

    With `beside`, that row (a valid one, so changed) is there already.
    """

    constraint: str
    table: str
    changes: Row = field(default_factory=dict)
    beside: Row | None = None


def execute(statement: str, *values: Any) -> Any:
    """Run one statement; returns its first row, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone() if cursor.description else None


def insert(table: str, row: Row) -> Any:
    """Insert the row; returns the first column of what was stored."""
    values = [json.dumps(value) if isinstance(value, dict) else value for value in row.values()]
    columns, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    return execute(f"INSERT INTO {table} ({columns}) VALUES ({marks}) RETURNING *", *values)[0]


@contextmanager
def violates(constraint: str) -> Iterator[None]:
    """What happens inside is refused by that constraint, at its end at the latest."""
    with pytest.raises(IntegrityError) as refused, transaction.atomic():  # noqa: PT012  The body is the caller's.
        yield
        execute("SET CONSTRAINTS ALL IMMEDIATE")
    cause = refused.value.__cause__
    assert isinstance(cause, psycopg.IntegrityError)
    assert cause.diag.constraint_name == constraint


def check_break(broken: Break, valid: Row) -> None:
    if broken.beside is not None:
        insert(broken.table, valid | broken.beside)
    with violates(broken.constraint):
        insert(broken.table, valid | broken.changes)


def constraints_of(app: str) -> set[str]:
    """The names of the constraints that the app's models declare."""
    return {
        constraint.name
        for model in apps.get_app_config(app).get_models()
        for constraint in model._meta.constraints
    }
