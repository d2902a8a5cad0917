"""Whose word is taken for who the client is."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.http.head import Header

Address = tuple[str, int]
SCHEMES = frozenset({"http", "https"})


class TrustedProxies:
    """Addresses, networks, or `*`; what is neither is compared as it is."""

    def __init__(self, names: Sequence[str]) -> None:
        self._trusts_all = "*" in names
        self._names = frozenset(names)
        self._addresses: set[IPv4Address | IPv6Address] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for name in names:
            try:
                network = ip_network(name)
            except ValueError:
                continue
            if network.num_addresses == 1:
                self._addresses.add(network.network_address)
            else:
                self._networks.append(network)

    def trusts(self, host: str) -> bool:
        if self._trusts_all:
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return host in self._names
        return address in self._addresses or any(address in network for network in self._networks)

    def scheme(self, headers: Iterable[Header]) -> str | None:
        """The scheme that a trusted proxy has forwarded, if it did."""
        values = [value for name, value in headers if name == b"x-forwarded-proto"]
        scheme = values[-1].decode("latin-1").strip() if values else None
        return scheme if scheme in SCHEMES else None

    def client(self, headers: Iterable[Header]) -> Address | None:
        """Who called the outermost trusted proxy: each appends whom it has seen."""
        values = [value for name, value in headers if name == b"x-forwarded-for"]
        if not values:
            return None
        hops = [_host_and_port(hop) for hop in b",".join(values).decode("latin-1").split(",")]
        if self._trusts_all:
            found = hops[0]
        else:
            found = next((hop for hop in reversed(hops) if not self.trusts(hop[0])), hops[0])
        return found if found[0] else None


def _host_and_port(text: str) -> Address:
    """Of `1.2.3.4`, `1.2.3.4:80`, `::1` or `[::1]:80`; what is none of these stays whole."""
    text = text.strip()
    host, port = text, ""
    if text.startswith("["):
        inside, bracket, behind = text[1:].partition("]")
        if bracket and (not behind or behind.startswith(":")):
            host, port = inside, behind[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        if not port.isdecimal():
            return text, 0
    return host, int(port) if port.isascii() and port.isdecimal() else 0
