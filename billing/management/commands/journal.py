"""manage.py journal inspect | replay: what this node's journals hold, and shipping the dead."""

import asyncio
import os
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from typing_extensions import override

from billing.engine import EngineSettings, MoneyEngine, Timing
from billing.engine.journal import first_offset, lock_file, read
from billing.engine.records import Settled
from billing.identifiers import uuid7_time
from billing.money import format_usd

BATCH_BYTES = 1024 * 1024


class Command(BaseCommand):
    help = "Look into the journals of this node, or ship those whose workers are dead."
    requires_system_checks = ()

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["inspect", "replay"])
        parser.add_argument(
            "worker", nargs="?", type=UUID, help="inspect: list this worker's records, too"
        )

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        journals = settings.DATA_DIR / "journals"
        if options["action"] == "replay":
            asyncio.run(_replay(journals))
        for directory in sorted(journals.iterdir()) if journals.is_dir() else ():
            if directory.name.startswith("."):
                continue  # Being made, or being removed.
            self.stdout.write(_summary(directory))
            if options["worker"] and directory.name == str(options["worker"]):
                for line in _records(directory):
                    self.stdout.write(line)


async def _replay(journals: Path) -> None:
    engine = MoneyEngine(
        EngineSettings(
            database_url=settings.DATABASE_URL,
            journals=journals,
            node="command",
            timing=Timing(),
        )
    )
    try:
        await engine.replay_dead_siblings()
    finally:
        await engine.stop(0)


def _summary(directory: Path) -> str:
    settled, opened, end = 0, set(), first_offset(directory)
    start = end
    while batch := list(read(directory, end, limit_bytes=BATCH_BYTES)):
        end = batch[-1][1]
        for _, _, record in batch:
            if isinstance(record, Settled):
                settled += 1
                opened.discard(record.call.request_id)
            else:
                opened.add(record.call.request_id)
    return (
        f"{directory.name}  {_owner(directory)}  offsets {start} to {end},"
        f" {settled} settled, {len(opened)} open"
    )


def _owner(directory: Path) -> str:
    lock = lock_file(directory / "lock", create=False)
    if lock is None:
        return "alive"
    os.close(lock)
    return "dead"


def _records(directory: Path) -> list[str]:
    lines, end = [], first_offset(directory)
    while batch := list(read(directory, end, limit_bytes=BATCH_BYTES)):
        end = batch[-1][1]
        for offset, _, record in batch:
            call = record.call
            what = "opened "
            if isinstance(record, Settled):
                what = f"{record.outcome.outcome} {format_usd(record.charge_nano_usd)} USD "
            lines.append(
                f"  {offset:>12}  {uuid7_time(call.request_id):%Y-%m-%d %H:%M:%S}"
                f"  req_{call.request_id.hex}  {what}{call.model} {call.api_key_prefix}"
            )
    return lines
