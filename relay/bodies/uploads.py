"""Forms on their way through: read ahead until it is known what they ask for, then passed on.

A small form is taken in whole before anything of it is sent. Of a larger one no more is kept than
has to be: as soon as the fields that decide its price are known, the rest passes through as fast
as the upstream takes it. Who sends those fields behind the file has it kept until they come, in
memory at first, then in a temporary file.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import IO, Final

from relay import errors
from relay.bodies.forms import FormReader
from relay.bodies.multipart import FormDigest
from relay.exchange import Exchange
from relay.upstream import BodyStream

# So much is read before any of it is sent: of most forms that is all.
READ_AHEAD_BYTES: Final = 256 * 1024
# What is kept beyond this goes into a file.
MEMORY_BYTES: Final = 1024 * 1024
PIECE_BYTES: Final = 64 * 1024
# Of all forms of this process together, in temporary files.
MAX_KEPT_BYTES: Final = 1024**3


class KeptBytes:
    """How much of forms is kept in files."""

    def __init__(self, most: int) -> None:
        self.left = most

    def take(self, size: int) -> None:
        """Raises RelayError when there is no room for more."""
        if size > self.left:
            raise errors.upstream_unavailable()
        self.left -= size

    def give_back(self, size: int) -> None:
        self.left += size


KEPT: Final = KeptBytes(MAX_KEPT_BYTES)
Edits = list[tuple[int, int, bytes]]


class Upload:
    """One form. Whoever made it closes it."""

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        form: FormReader,
        *,
        announced_bytes: int | None = None,
        kept: KeptBytes = KEPT,
    ) -> None:
        self.form = form
        self._chunks = chunks
        self._announced_bytes = announced_bytes
        self._room = kept
        # Closed in `close`, which outlives any block.
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115
        self._kept_bytes = 0
        self._taken_bytes = 0
        self._has_ended = False
        self.has_begun = False
        """Some of what is not kept has gone upstream: it cannot be sent again."""

    def close(self) -> None:
        """Let go of what is kept; may be called again."""
        self._spool.close()
        self._room.give_back(self._taken_bytes)
        self._taken_bytes = 0

    @property
    def is_whole(self) -> bool:
        """All of it is here."""
        return self._has_ended and not self.has_begun

    @property
    def most_file_bytes(self) -> int | None:
        """No file in it is larger; None: nobody knows."""
        return self.form.file_bytes if self._has_ended else self._announced_bytes

    # --- Taking it in ----------------------------------------------------------------------------

    async def read_ahead(self, is_known: Callable[[FormReader], bool]) -> None:
        """Until it is known what the form asks for, and a little more. Raises RelayError."""
        while not self._has_ended:
            if self._kept_bytes >= READ_AHEAD_BYTES and is_known(self.form):
                return
            await self._keep_more()

    async def read_all(self) -> None:
        """Raises RelayError."""
        while not self._has_ended:
            await self._keep_more()

    async def digest(self) -> bytes:
        """Of all parts in their order: their headers and their data, but not of the boundary.

        Raises RelayError.
        """
        await self.read_all()
        digest = FormDigest(self.form.boundary)
        for piece in self._kept(0, self._kept_bytes):
            digest.feed(piece)
            await asyncio.sleep(0)  # To hash a large form takes as long as many calls.
        return digest.value()

    async def _keep_more(self) -> None:
        chunk = await self._next()
        if chunk is None:
            return
        if self._kept_bytes + len(chunk) > MEMORY_BYTES:
            self._room.take(len(chunk))
            self._taken_bytes += len(chunk)
        self._spool.write(chunk)
        self._kept_bytes += len(chunk)

    async def _next(self) -> bytes | None:
        """The next piece, read already; None: the form is complete. Raises RelayError."""
        chunk = await anext(self._chunks, None)
        if chunk is None:
            self._has_ended = True
            self.form.close()
        else:
            self.form.feed(chunk)
        return chunk

    # --- Passing it on ---------------------------------------------------------------------------

    def body(self, values: Mapping[str, str]) -> bytes | BodyStream:
        """The form with other values for these fields; one that it has not is added."""
        edits = self._edits(values)
        longer = sum(len(new) - (end - start) for start, end, new in edits)
        if not self._has_ended:
            announced = self._announced_bytes
            length = None if announced is None else announced + longer
            return BodyStream(pieces=self._stream(edits), length=length)
        if self._kept_bytes <= MEMORY_BYTES:
            return b"".join(self._pieces(edits))
        return BodyStream(pieces=self._stream(edits), length=self._kept_bytes + longer)

    def _edits(self, values: Mapping[str, str]) -> Edits:
        edits: Edits = []
        for name, value in values.items():
            span = self.form.spans.get(name)
            if span is not None:
                edits.append((*span, value.encode()))
            else:
                edits.append((0, 0, self._part(name, value)))
        return sorted(edits)

    def _part(self, name: str, value: str) -> bytes:
        """A field in front of all others. The form begins with a delimiter, or with a line end."""
        head = f'content-disposition: form-data; name="{name}"\r\n\r\n'
        self._spool.seek(0)
        end = b"" if self._spool.read(1) == b"\r" else b"\r\n"
        return b"--" + self.form.boundary + b"\r\n" + head.encode() + value.encode() + end

    async def _stream(self, edits: Edits) -> AsyncIterator[bytes]:
        for piece in self._pieces(edits):
            yield piece
        if self._has_ended:
            return
        self.has_begun = self.form.is_passing = True
        last = b""
        # Upstream gets the end of the form only after it was found to be in order.
        while (chunk := await self._next()) is not None:
            yield last
            last = chunk
        yield last

    def _pieces(self, edits: Edits) -> Iterator[bytes]:
        """What is kept, with the edits in it."""
        position = 0
        for start, end, new in edits:
            yield from self._kept(position, start)
            yield new
            position = end
        yield from self._kept(position, self._kept_bytes)

    def _kept(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            self._spool.seek(start)
            piece = self._spool.read(min(PIECE_BYTES, end - start))
            start += len(piece)
            yield piece


def upload_of(exchange: Exchange, form: FormReader, *, limit_bytes: int) -> Upload:
    announced = exchange.header(b"content-length")
    return Upload(
        exchange.body_chunks(limit_bytes),
        form,
        announced_bytes=int(announced) if announced is not None and announced.isdigit() else None,
    )
