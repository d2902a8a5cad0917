"""manage.py journal inspect | replay | retry: what this node's journals hold, and shipping it."""

import asyncio
import os
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from typing_extensions import override

from accounts.management.base import command_actor
from billing.engine import EngineSettings, MoneyEngine, OutcomeUnknown, Timing
from billing.engine.database import Database
from billing.engine.journal import first_offset, lock_file, read
from billing.engine.records import Settled
from billing.engine.set_aside import Retried, set_aside_retry, set_aside_waiting
from billing.identifiers import uuid7_time
from billing.money import format_usd

BATCH_BYTES = 1024 * 1024
RETRY_TIMEOUT_SECONDS = 10.0
STILL_REFUSED = 1


class Command(BaseCommand):
    help = (
        "Look into the journals of this node (inspect), ship those whose workers are dead (replay),"
        " or ship once more what the database refused (retry; status 1 if it still refuses some)."
    )
    requires_system_checks = ()

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["inspect", "replay", "retry"])
        parser.add_argument(
            "worker", nargs="?", type=UUID, help="inspect: list this worker's records, too"
        )

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "retry":
            self._retry()
            return
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

    def _retry(self) -> None:
        try:
            retried = asyncio.run(_retry_all())
        except OutcomeUnknown as error:
            raise CommandError(f"The database does not answer; try again. {error}") from error
        for each in retried:
            self.stdout.write(_told(each))
        if not retried:
            self.stdout.write("No record is set aside.")
        if any(each.refusal for each in retried):
            raise SystemExit(STILL_REFUSED)


async def _retry_all() -> list[Retried]:
    database = Database(url=settings.DATABASE_URL, timeout=RETRY_TIMEOUT_SECONDS)
    try:
        waiting = await database.run(set_aside_waiting)
        actor = command_actor("journal")
        return await set_aside_retry(database, waiting, actor_label=actor.label)
    finally:
        await database.close()


def _told(retried: Retried) -> str:
    what = f"Record {retried.record_id}, {retried.request_id}"
    if retried.refusal:
        return f"{what}: refused again. {retried.refusal}"
    return f"{what}: recorded, {format_usd(retried.charge_nano_usd)} USD charged."


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
