"""Monthly partitions of the usage records, by the time inside their UUIDv7 request ids."""

import datetime as dt
from typing import Any

from django.db import connection, migrations
from typing_extensions import override

from billing.identifiers import uuid7_floor

TABLE = "billing_usagerecord"
MONTHS_AHEAD = 3


class CreateModelPartitionedByRange(migrations.CreateModel):
    """CreateModel, but the table is partitioned by the range of its primary key."""

    @override
    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        create_table = schema_editor.sql_create_table
        key = to_state.apps.get_model(app_label, self.name)._meta.pk.column  # noqa: SLF001  Django's own way to a model's key.
        schema_editor.sql_create_table = f"{create_table} PARTITION BY RANGE ({key})"
        try:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        finally:
            schema_editor.sql_create_table = create_table


def first_of_month(day: dt.date, months_later: int = 0) -> dt.date:
    """The first day of the month that is so many months after the given day's."""
    years, month = divmod(day.month - 1 + months_later, 12)
    return dt.date(day.year + years, month + 1, 1)


def partitions_create(*, today: dt.date, months_ahead: int = MONTHS_AHEAD) -> list[str]:
    """Create the missing partitions from this month on; returns the names of the new ones.

    Done ahead of time, while the default partition holds nothing of those months: a partition
    cannot be added under rows that strayed into the default one.
    """
    created = []
    with connection.cursor() as cursor:
        for later in range(months_ahead + 1):
            start, end = first_of_month(today, later), first_of_month(today, later + 1)
            name = f"{TABLE}_{start:%Y_%m}"
            cursor.execute("SELECT to_regclass(%s)", [name])
            if cursor.fetchone() == (None,):
                # Identifiers and bounds are made from dates above, never from anybody's input.
                cursor.execute(
                    f"CREATE TABLE {name} PARTITION OF {TABLE} FOR VALUES"
                    f" FROM ('{uuid7_floor(start)}') TO ('{uuid7_floor(end)}')"
                )
                created.append(name)
    return created
