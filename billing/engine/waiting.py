"""A call that waits for its hold: it gets it once, or gives it back, or is told why not."""

import asyncio
from collections.abc import Callable

from billing.engine.holds import Account, EngineUnavailable, Hold, Waiter


async def hold_awaited(
    account: Account, waiter: Waiter, *, patience: float, undo: Callable[[Hold], None]
) -> Hold:
    """Whoever is cancelled or late just when the hold comes does not leak it.

    Raises InsufficientQuota, EngineUnavailable.
    """
    granted = waiter.granted
    try:
        async with asyncio.timeout(patience):
            return await granted
    except TimeoutError:
        if granted.done() and not granted.cancelled():
            return granted.result()
        raise EngineUnavailable("no answer from the database about the wallet") from None
    except asyncio.CancelledError:
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            undo(granted.result())
        raise
    finally:
        if waiter in account.waiting:
            account.waiting.remove(waiter)
