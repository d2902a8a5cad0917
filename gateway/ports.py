"""The listening socket, and who holds a port that we do not get."""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

BACKLOG = 2048

_LISTENING = "0A"


class UnableToListen(Exception):
    """The address is none that this machine can listen on."""


class PortTaken(UnableToListen):
    """Another process listens there."""

    def __init__(self, *, host: str, port: int, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "a process that cannot be seen from here"
        super().__init__(
            f"port {port} on {host} is taken by {holder}: stop it, or choose another one with PORT="
        )
        self.pid = pid


def bind_listener(host: str, port: int) -> socket.socket:
    """A socket that listens already: calls wait in its queue until a worker accepts them.

    Only listening claims a port, two processes may bind the same one. Raises UnableToListen.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise UnableToListen(f"HOST {host} is no address: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host=host, port=port, pid=port_holder(port)) from error
        raise UnableToListen(f"cannot listen on {host}, port {port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def port_holder(port: int) -> int | None:
    """The process that listens on this port, or the topmost where a family shares the socket."""
    inodes = set(_listening_inodes(port))
    holders = {pid for pid in _pids() if inodes & set(_socket_inodes(pid))}
    return min((pid for pid in holders if parent_of(pid) not in holders), default=None)


def parent_of(pid: int) -> int | None:
    """The parent of a living process."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The program's name comes second, in parentheses, and may itself hold any character.
    state, parent = status.rpartition(")")[2].split()[:2]
    return None if state in "ZX" else int(parent)


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text("ascii").splitlines()[1:]
        except OSError:  # No IPv6 here, or no /proc.
            continue
        for row in rows:
            columns = row.split()
            local_port = int(columns[1].rpartition(":")[2], 16)
            if columns[3] == _LISTENING and local_port == port:
                yield columns[9]


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _socket_inodes(pid: int) -> Iterator[str]:
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # It ended, or belongs to somebody else.
        return
    for descriptor in descriptors:
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target.removeprefix("socket:[").removesuffix("]")
