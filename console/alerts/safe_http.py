"""POST to a URL that a customer chose, without becoming the customer's way into our network.

The name is resolved once, every address is judged, and the connection goes to the very address
that was judged: a name that answers differently the second time gains nothing. Redirects are not
followed, and no more of the answer is read than its status.
"""

import ipaddress
import socket
from collections.abc import Iterable, Mapping

import httpcore2
from django.conf import settings
from typing_extensions import override

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
SUCCESSES = range(200, 300)


class ForbiddenAddress(Exception):
    """The host is inside a network that webhooks have no business in."""


class RefusedByReceiver(Exception):
    """The receiver answered, and not with a success."""


class PublicAddresses(httpcore2.NetworkBackend):
    """Connects to public addresses only."""

    def __init__(self) -> None:
        self._backend = httpcore2.SyncBackend()

    @override
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        return self._backend.connect_tcp(
            allowed_address(host, port), port, timeout, local_address, socket_options
        )


def allowed_address(host: str, port: int) -> str:
    """An address of the host that may be connected to. Raises ForbiddenAddress, OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(address[0]) for *_, address in found]
    if not settings.WEBHOOK_PRIVATE_HOSTS:
        for address in addresses:
            if not is_public(address):
                raise ForbiddenAddress(f"{host} is not on the public internet.")
    return addresses[0]


def is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is not None:
            return is_public(str(inner))
        if parsed in TRANSLATED or parsed.teredo:
            return False  # It leads to whatever IPv4 address it hides.
    return parsed.is_global and not parsed.is_multicast


def post(url: str, *, headers: Mapping[str, str], body: bytes) -> None:
    """Raises ForbiddenAddress, RefusedByReceiver, OSError and httpcore2's exceptions."""
    timeouts = {
        "connect": CONNECT_SECONDS,
        "read": ANSWER_SECONDS,
        "write": ANSWER_SECONDS,
        "pool": ANSWER_SECONDS,
    }
    with (
        httpcore2.ConnectionPool(network_backend=PublicAddresses()) as pool,
        pool.stream(
            "POST",
            url,
            headers=[("user-agent", "tollgate"), *headers.items()],
            content=body,
            extensions={"timeout": timeouts},
        ) as response,
    ):
        if response.status not in SUCCESSES:
            raise RefusedByReceiver(f"It answered with status {response.status}.")
