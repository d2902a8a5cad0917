"""ASGI's own shapes, named once."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
# Under this name the scope has a `Direct`, where our own server serves.
DIRECT = "tollgate.direct"


class Direct(Protocol):
    """What our server offers beside ASGI: the same, for who need not wait."""

    disconnected: bool
    on_disconnect: Callable[[], None] | None
    """Called once, when nothing that is sent can arrive any more."""

    def body_now(self) -> bytes | None:
        """The request's body; None, and nothing of it is taken, if all of it is not here yet."""

    def answer_now(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole answer, whose length is no header. Returns False as below."""

    def stream_now(self, data: bytes) -> bool:
        """Send a piece of the body. Returns False, and has sent nothing, if that has to wait."""
