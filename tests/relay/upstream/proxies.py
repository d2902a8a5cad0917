"""Small proxies of two kinds: HTTP with CONNECT, and SOCKS5 with a password."""

import asyncio
import base64
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tests.relay.upstream.support import Peer

USER, PASSWORD = "me", "hunter2"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"
Seen = list[tuple[str, int]]


def http_proxy(seen: Seen, *, answer: bytes = ESTABLISHED) -> Callable[[Peer], Awaitable[None]]:
    """Tunnels for whoever proves to be the user; notes where they went."""
    proof = base64.b64encode(f"{USER}:{PASSWORD}".encode())

    async def script(peer: Peer) -> None:
        head, _ = await peer.request()
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        assert method == b"CONNECT"
        assert b"sk-secret" not in head
        if proof not in head:
            await peer.send(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n")
            return
        host, _, port = target.decode().rpartition(":")
        seen.append((host, int(port)))
        await peer.send(answer)
        if answer == ESTABLISHED:
            await _tunnel(peer, host, int(port))

    return script


def socks_proxy(seen: Seen) -> Callable[[Peer], Awaitable[None]]:
    """Just as much of RFC 1928 and 1929 as a client with a password needs."""

    async def script(peer: Peer) -> None:
        version, methods = await peer.reader.readexactly(2)
        assert version == 5
        assert 2 in await peer.reader.readexactly(methods)
        await peer.send(b"\x05\x02")
        await peer.reader.readexactly(1)
        found = [await _counted(peer), await _counted(peer)]
        if found != [USER.encode(), PASSWORD.encode()]:
            await peer.send(b"\x01\x01")
            return
        await peer.send(b"\x01\x00")
        assert await peer.reader.readexactly(3) == b"\x05\x01\x00"
        kind = (await peer.reader.readexactly(1))[0]
        if kind == 1:
            host = socket.inet_ntoa(await peer.reader.readexactly(4))
        else:
            assert kind == 3
            host = (await _counted(peer)).decode()
        port = int.from_bytes(await peer.reader.readexactly(2))
        seen.append((host, port))
        await peer.send(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        await _tunnel(peer, host, port)

    return script


async def _counted(peer: Peer) -> bytes:
    return await peer.reader.readexactly((await peer.reader.readexactly(1))[0])


async def _tunnel(peer: Peer, host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(4096):
                sink.write(data)
                await sink.drain()
        sink.close()

    try:
        await asyncio.gather(pump(peer.reader, writer), pump(reader, peer.writer))
    finally:
        writer.transport.abort()
