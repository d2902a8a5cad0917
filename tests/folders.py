"""Where tests keep their files."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 2 * 1024**3


def temporary_folder_make() -> Path:
    """In memory where there is room: a busy disk makes every commit wait."""
    usual = Path(tempfile.gettempdir())
    in_memory = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    parent = _MEMORY if in_memory and not usual.is_relative_to(_MEMORY) else usual
    # A short name, because PostgreSQL's sockets lie deep below it.
    return Path(tempfile.mkdtemp(prefix="tollgate-", dir=parent))


@contextmanager
def temporary_folder() -> Iterator[Path]:
    folder = temporary_folder_make()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
