"""Trying upstreams again that lost calls, without a customer's call.

What is asked is the list of models: it costs nothing, and wants a credential.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from relay.channels.table import ChannelTable
from relay.routing.sending import Sending

LOOK_SECONDS = 0.5


async def probe_for_ever(sending: Sending, channels: Callable[[], ChannelTable]) -> None:
    probes: set[asyncio.Task[None]] = set()
    try:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for route in sending.to_probe(channels().routes):
                task = asyncio.create_task(sending.probe(route))
                probes.add(task)
                task.add_done_callback(probes.discard)
    finally:
        for task in probes:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*probes, return_exceptions=True)
