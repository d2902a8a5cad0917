"""The nodes: the product's own money engine in each process, on a database in memory.

Nothing of the engine is replaced but its connection and its clock. Journals are real files, with
small segments, in memory where the system has a folder for that.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast
from unittest.mock import patch
from uuid import UUID

from typing_extensions import override

from bench.capacity.server import Server, Session
from billing.engine import EngineSettings, MoneyEngine, Timing, worker
from billing.engine.database import Connection, Database
from billing.engine.journal import Journal

SEGMENT_BYTES = 1024 * 1024
URL = "postgresql:///simulated"
# Bringing journals to the disk takes real time and has no part in leasing.
TIMING = Timing(sync=3600.0)


class SimulatedDatabase(Database):
    """The product's, with its turns and its timeouts; only the line ends in the simulation."""

    def __init__(self, server: Server, *, timeout: float, listen: bool) -> None:
        super().__init__(url=URL, timeout=timeout, listen=listen)
        self._server = server

    @override
    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            session = cast("Connection", Session(self._server))
            self._connection = session
            self.connections += 1
            self.connected_at = asyncio.get_running_loop().time()
            if self._listen:
                await session.execute("LISTEN tollgate")
        return self._connection


class OpenEngine(MoneyEngine):
    """The product's, of which a bench may look inside, and which it may kill."""

    @property
    def workers(self) -> list[worker.Worker]:
        return list(self._workers)

    async def kill(self) -> None:
        """As `kill -9` does: nothing is said to anybody, the kernel lets go of the locks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in self._workers:
            await each.book.close()
            each.journal.close()
        await self.leases_database.close()
        await self._shipping_database.close()


class SimulatedEngine(OpenEngine):
    def __init__(self, settings: EngineSettings, server: Server) -> None:
        self._server = server
        super().__init__(settings)

    @override
    def _database(self, *, listen: bool = False) -> Database:
        return SimulatedDatabase(self._server, timeout=self.settings.timing.timeout, listen=listen)


class SmallJournal(Journal):
    @classmethod
    @override
    def create(
        cls, *, root: Path, worker_id: UUID, segment_bytes: int = SEGMENT_BYTES
    ) -> "SmallJournal":
        made = super().create(root=root, worker_id=worker_id, segment_bytes=segment_bytes)
        assert isinstance(made, SmallJournal), "the class makes its own"
        return made


@contextmanager
def journals() -> Iterator[Path]:
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="tollgate-capacity-", dir=parent) as folder,
        patch.object(worker, "Journal", SmallJournal),
    ):
        yield Path(folder)


class Fleet:
    """So many nodes with so many processes each."""

    def __init__(self, server: Server, folder: Path, *, timing: Timing = TIMING) -> None:
        self.engines: list[SimulatedEngine] = []
        self._server = server
        self._folder = folder
        self._timing = timing

    def settings(self, node: int) -> EngineSettings:
        folder = self._folder / f"node-{node}"
        folder.mkdir(exist_ok=True)
        return EngineSettings(
            database_url=URL, journals=folder, node=f"node-{node}", timing=self._timing
        )

    async def start(self, node: int) -> SimulatedEngine:
        engine = SimulatedEngine(self.settings(node), self._server)
        await engine.start()
        self.engines.append(engine)
        return engine

    async def kill(self, engine: SimulatedEngine) -> None:
        self.engines.remove(engine)
        await engine.kill()


@asynccontextmanager
async def fleet(
    server: Server, folder: Path, *, nodes: int, workers: int = 1, timing: Timing = TIMING
) -> AsyncIterator[Fleet]:
    """All of them, started over a heartbeat so that they do not renew in step, and stopped."""
    made = Fleet(server, folder, timing=timing)
    pause = timing.heartbeat / (nodes * workers)
    for number in range(nodes * workers):
        await made.start(number % nodes)
        await asyncio.sleep(pause)
    try:
        yield made
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.gather(*(engine.stop(60.0) for engine in made.engines))
