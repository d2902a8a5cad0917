"""Ports for servers that a test starts as programs."""

import random
import socket

# Below those that the kernel hands out (net.ipv4.ip_local_port_range), so that until the program
# listens nobody gets the port by chance, neither a server that asks for any nor a client.
_PORTS = range(20_000, 32_000)
# Not the generator that a test may have seeded: processes that test side by side must differ.
_dice = random.SystemRandom()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    while True:
        port = _dice.choice(_PORTS)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
