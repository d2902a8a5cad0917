"""What a transport knows of the two ends of its connection."""

import asyncio
import select
import socket
import struct

Address = tuple[str, int]


def address(transport: asyncio.BaseTransport, name: str) -> Address | None:
    """The `sockname` or `peername`; None once the connection is lost already."""
    found = transport.get_extra_info(name)
    return (found[0], found[1]) if found else None


def has_left(transport: asyncio.BaseTransport) -> bool:
    """Whether the kernel has the peer's end, behind whatever was not read yet."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


def reset(transport: asyncio.Transport) -> None:
    """End the connection so that the peer sees no orderly end."""
    own_socket = transport.get_extra_info("socket")
    own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
