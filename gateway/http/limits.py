"""What one connection may take: bytes, seconds, counts."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    # Real clients send less than 8 KB and 40 lines.
    head_bytes: int = 64 * 1024
    head_lines: int = 200
    # From its first byte to its end.
    head_seconds: float = 30.0
    # For the first request of a connection, and for each next one.
    keep_alive_seconds: float = 75.0
    # Without a single byte of an unfinished body that is waited for; more than the relay waits.
    body_seconds: float = 150.0
    # How long a client may take nothing of what waits for it.
    write_seconds: float = 60.0
    # Of a body that waits for the application, and of requests that wait behind the running one.
    unread_bytes: int = 64 * 1024
    # So much of a body that nobody wants is taken, to keep the connection.
    discard_bytes: int = 256 * 1024
    # More is taken only for the client to get as far as the answer: who is closed on while it still
    # sends is reset, often before it has read why, and sends it all again.
    linger_bytes: int = 64 * 1024 * 1024
    linger_seconds: float = 10.0
