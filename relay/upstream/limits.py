"""The bounds of the engine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of everything one engine holds or accepts.

    `keep_alive_seconds` is below what common servers grant an unused connection (nginx 75, most
    load balancers 60), so that we let go first; a server that announces less is believed.
    """

    connections_per_destination: int = 4096
    waiting_per_destination: int = 4096
    keep_alive_seconds: float = 30.0
    # A response with more unread bytes stops being received until its reader catches up.
    unread_bytes: int = 64 * 1024
    head_bytes: int = 100_000
    header_count: int = 1000
    interim_responses: int = 32
