"""How safe a record must be before the last byte of its reply goes out: the operator's choice."""

import asyncio
from collections import deque
from enum import Enum

from billing.engine.journal import JournalFailed


class Durability(Enum):
    """What a reply waits for, beyond the write that survives the end of the process."""

    JOURNAL = "journal"  # Nothing more: a power cut may take the last tenth of a second.
    SYNCED = "synced"  # The journal on the disk: survives a power cut, if the disk does.
    DATABASE = "database"  # The shipped record: survives the disk, for nodes that lose theirs.


class Promises:
    """Replies that wait for their record, in the order of their records."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def promise(self, end: int) -> "asyncio.Future[None]":
        """Done when everything before that offset is kept."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((end, future))
        return future

    def kept_to(self, offset: int) -> None:
        while self._waiting and self._waiting[0][0] <= offset:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)

    def break_all(self, reason: str) -> None:
        """Nobody will keep them: the replies must be cut, though their calls are recorded."""
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(JournalFailed(reason))
                future.exception()  # Its reply may have been cut already, and nobody wait.
