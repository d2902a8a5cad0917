"""What is sent to an upstream, what comes back, and the interface of whatever carries them."""

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

from msgspec import Struct

from relay.upstream.errors import BodyTooLarge

VISIBLE_PATH = re.compile(r"[!-~]*")
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where requests go. Equal destinations share connections.

    `server_name` is the name that the certificate must prove, if it is not the host;
    `ca_file` replaces the system's certificate authorities.
    """

    host: str
    port: int
    tls: bool = True
    server_name: str | None = None
    ca_file: str | None = None

    authority: bytes = field(init=False, repr=False, compare=False)
    """The value of the host header."""
    key: tuple[object, ...] = field(init=False, repr=False, compare=False)
    """Equal for equal destinations, and quicker to look up."""

    @classmethod
    def from_url(cls, base_url: str, *, ca_file: str | None = None) -> tuple[Self, bytes]:
        """Return the destination of a base URL and its path without a trailing slash.

        Raises ValueError for anything but a plain http or https URL.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError("A base URL starts with http:// or https:// and names a host.")
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError("A base URL has no user, query or fragment.")
        if not VISIBLE_PATH.fullmatch(parts.path):
            raise ValueError("The path of a base URL is visible ASCII.")
        # Encoding raises UnicodeError, a ValueError, for what is no name.
        host = parts.hostname.encode("idna").decode("ascii")
        port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
        if not port:
            raise ValueError("A base URL has no port 0.")
        destination = cls(host=host, port=port, tls=parts.scheme == "https", ca_file=ca_file)
        return destination, parts.path.rstrip("/").encode("ascii")

    def __post_init__(self) -> None:
        # Every request asks for these.
        object.__setattr__(self, "authority", self._authority())
        own = (self.host, self.port, self.tls, self.server_name, self.ca_file)
        object.__setattr__(self, "key", own)

    def _authority(self) -> bytes:
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_default = self.port == DEFAULT_PORTS["https" if self.tls else "http"]
        return (host if is_default else f"{host}:{self.port}").encode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each part of a call may take.

    Connecting, and waiting for a free connection before it, get `connect_seconds` each. The
    response head is due `first_byte_seconds` after the request is written, interim responses and
    trickled header bytes notwithstanding. While the reader keeps up, the body may pause for
    `idle_seconds`. `total_seconds` counts from the call of `send` to the end of the body.
    """

    connect_seconds: float = 5.0
    first_byte_seconds: float = 600.0
    idle_seconds: float = 300.0
    total_seconds: float = 1800.0


DEFAULT_DEADLINES = Deadlines()


class BodyStream(Struct, kw_only=True):
    """A body that is sent while it comes, once, and no faster than the upstream takes it.

    What `pieces` raises ends the call: the upstream then has not got a whole request.
    """

    pieces: AsyncIterator[bytes]
    length: int | None = None
    """None: nobody knows, so it is sent in chunks."""


class UpstreamRequest(Struct, kw_only=True):
    """One HTTP request. Framing and connection headers are added by who sends it."""

    destination: Destination
    method: bytes = b"POST"
    target: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes | BodyStream = b""
    deadlines: Deadlines = DEFAULT_DEADLINES
    # Only the second engine knows these two.
    proxy: str = ""
    http2: bool = False


class UpstreamResponse(ABC):
    """A response whose head has arrived. Header names are lower case, the body is raw.

    Whoever got it reads it to the end or closes it. It has one reader at a time.
    """

    __slots__ = ("status",)

    status: int

    @property
    @abstractmethod
    def headers(self) -> list[tuple[bytes, bytes]]:
        """All of them, read anew each time; who wants one of them asks for it by its name."""

    @abstractmethod
    def header(self, name: bytes) -> bytes | None:
        """The first value of a header."""

    def forget_headers(self) -> None:  # noqa: B027  Who keeps little of them need not forget it.
        """Nobody will ask for one any more: a long stream need not keep them."""

    @abstractmethod
    async def read(self) -> bytes:
        """Return all bytes that have arrived, waiting for some; b"" is the clean end."""

    async def pass_on(self, take: Callable[[bytes], bool]) -> bool:
        """Hand each piece over when it arrives, until `take` says False; whether it was the end.

        Raises UpstreamError, and what `take` raises. It is called from within the event loop, so
        what it does not want to see yet it has to refuse.
        """
        while piece := await self.read():
            if not take(piece):
                return False
        return True

    @abstractmethod
    def read_now(self) -> bytes:
        """Return all bytes that have arrived, be it none, without waiting."""

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """Whether the body came to its end, and all of it was read."""

    @property
    @abstractmethod
    def silent_seconds(self) -> float:
        """For how long a reader has been waiting for more; 0 while none is."""

    @abstractmethod
    async def close(self) -> None:
        """Give up what has not been read. Never waits, and may be called again."""

    async def read_all(self, limit: int) -> bytes:
        """Return the whole body. Raises BodyTooLarge, and closes, beyond `limit` bytes."""
        pieces: list[bytes] = []
        size = 0
        while piece := await self.read():
            size += len(piece)
            if size > limit:
                await self.close()
                raise BodyTooLarge(f"The body exceeds {limit} bytes.", sent=True)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class Upstream(Protocol):
    """Whatever can carry a request to an upstream."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Return the response as soon as its head has arrived. Raises UpstreamError."""
        ...

    async def close(self) -> None:
        """Break what is under way and let every connection go."""
        ...
