"""Whose is what upstream keeps: responses, their items, containers, recordings.

Upstream sees all tenants under one account, so an id would open any tenant's things to any other.
What is handed out is noted down for the organization that got it, with the channel that it lives
on, before the client has it. The notes are written in batches beside the calls; who asks for an id
on another worker in that moment waits for it, and then gets what a stranger gets: not found.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial
from weakref import WeakValueDictionary

from billing.engine import Connection, OutcomeUnknown
from billing.engine.database import Database
from relay import errors
from relay.tenancy.references import Reference

logger = logging.getLogger("tollgate.relay")

WRITE_SECONDS = 0.1
# A worker that is alive has written within this; the pauses between the looks at the database.
PATIENCE = (0.15, 0.35, 0.5)
MAX_REMEMBERED = 100_000
# Beyond it the database has been away for long, and the oldest are forgotten, aloud.
MAX_UNWRITTEN = 200_000
MAX_ID = 200
# Of one organization's calls with ids that are not known here: nobody keeps the database busy by
# inventing some.
AT_ONCE = 4

_WRITE = """
INSERT INTO relay_upstreamid (organization_id, upstream_id, channel_id, created_at)
SELECT organization, id, channel, clock_timestamp()
  FROM unnest(%s::bigint[], %s::text[], %s::bigint[]) AS noted (organization, id, channel)
    ON CONFLICT (organization_id, upstream_id) DO UPDATE SET channel_id = excluded.channel_id
"""
_READ = """
SELECT upstream_id, channel_id FROM relay_upstreamid
 WHERE organization_id = %s AND upstream_id = ANY(%s)
"""

Key = tuple[int, str]  # Organization and id.


class Ownership:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[Key, int] = OrderedDict()  # The channels.
        self._unwritten: dict[Key, int] = {}
        self._turns: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._write_for_ever())

    async def stop(self) -> None:
        """Write what is not written yet, if the database lets us."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._write()
        except OutcomeUnknown as error:
            logger.error("Ids of %s things are lost: %s", len(self._unwritten), error)  # noqa: TRY400  The trace says nothing more.

    def remember(self, organization_id: int, channel_id: int, ids: Iterable[str]) -> None:
        """These are handed out to the organization; call it before they are."""
        for upstream_id in ids:
            key = (organization_id, upstream_id)
            if not _is_possible(upstream_id) or self._known.get(key) == channel_id:
                continue
            self._note(key, channel_id)
            self._unwritten[key] = channel_id
            self._wake.set()
        if len(self._unwritten) > MAX_UNWRITTEN:
            logger.critical("The ids that upstream gave cannot be written down; some are lost.")
            self._unwritten.clear()

    async def channel_of(self, organization_id: int, references: Sequence[Reference]) -> int:
        """The channel on which all of these live. Raises RelayError unless all are its own."""
        for reference in references:
            if not _is_possible(reference.id):
                raise errors.id_not_found(reference.field, reference.id)
        wanted = {reference.id for reference in references}
        channels = self._in_memory(organization_id, wanted)
        if len(channels) < len(wanted):
            async with self._turns.setdefault(organization_id, asyncio.Semaphore(AT_ONCE)):
                channels = await self._ask(organization_id, wanted)
        for reference in references:
            # What lives on another channel than the rest is not there where the call goes.
            if channels.get(reference.id, -1) != channels.get(references[0].id):
                raise errors.id_not_found(reference.field, reference.id)
        return channels[references[0].id]

    async def _ask(self, organization_id: int, wanted: set[str]) -> dict[str, int]:
        """Ask the database, and again until every living worker has written its notes."""
        for pause in PATIENCE:
            channels = await self._look(organization_id, wanted)
            if len(channels) == len(wanted):
                return channels
            await asyncio.sleep(pause)
        return await self._look(organization_id, wanted)

    def _in_memory(self, organization_id: int, wanted: set[str]) -> dict[str, int]:
        found = {one: self._known.get((organization_id, one)) for one in wanted}
        return {one: channel for one, channel in found.items() if channel is not None}

    async def _look(self, organization_id: int, wanted: set[str]) -> dict[str, int]:
        try:
            rows = await self._database.run(
                partial(_read, organization_id=organization_id, ids=sorted(wanted))
            )
        except OutcomeUnknown:
            raise errors.store_unavailable() from None
        for upstream_id, channel_id in rows:
            self._note((organization_id, upstream_id), channel_id)
        return self._in_memory(organization_id, wanted)

    def _note(self, key: Key, channel_id: int) -> None:
        self._known[key] = channel_id
        self._known.move_to_end(key)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)

    async def _write_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(WRITE_SECONDS)
            self._wake.clear()
            try:
                await self._write()
            except OutcomeUnknown:
                self._wake.set()  # The database is away, which others tell the operator.
            except Exception:
                logger.critical("Ids that upstream gave cannot be written down.", exc_info=True)
                self._wake.set()

    async def _write(self) -> None:
        noted = dict(self._unwritten)
        if not noted:
            return
        await self._database.run(partial(_insert, noted=noted))
        for key, channel_id in noted.items():
            if self._unwritten.get(key) == channel_id:
                del self._unwritten[key]


def _is_possible(upstream_id: str) -> bool:
    """Nothing else is an id of anything, and the database could not even be asked for some."""
    return 0 < len(upstream_id) <= MAX_ID and upstream_id.isprintable()


async def _insert(connection: Connection, *, noted: dict[Key, int]) -> None:
    # In one order, so that two workers do not wait for each other.
    keys = sorted(noted)
    organizations, ids = [key[0] for key in keys], [key[1] for key in keys]
    await connection.execute(_WRITE, [organizations, ids, [noted[key] for key in keys]])


async def _read(
    connection: Connection, *, organization_id: int, ids: list[str]
) -> list[tuple[str, int]]:
    cursor = await connection.execute(_READ, [organization_id, ids])
    return [(row[0], row[1]) for row in await cursor.fetchall()]
