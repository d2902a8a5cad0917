"""A process with an engine that spends what a limit allows, and says how often it was served.

Arguments: the database's URL, the folder of the journals, the organization, its limit, what a call
costs, and how many calls to try. With 0 calls it holds all of the limit but one call, settles half
of that, and waits to be killed.
"""

import asyncio
import sys
from pathlib import Path

import django

django.setup()  # What the engine's tests share reads an application's module.

from billing.engine import InsufficientQuota, LimitSet, MoneyEngine, Timing  # noqa: E402  As above.
from billing.engine.spend_limits import LimitTerms  # noqa: E402  As above.
from tests.billing.engine.support import (  # noqa: E402  As above.
    DONE,
    bounded_by,
    call_of,
    request,
    settings_for,
)

AT_ONCE = 10


class Spender:
    def __init__(self, engine: MoneyEngine, organization: int, limit: int, cost: int) -> None:
        self.engine = engine
        self.organization = organization
        self.limits: LimitSet = bounded_by(organization, LimitTerms(limit, "organization", "day"))
        self.cost = cost
        self.served = 0

    async def open_and_settle(self, *, settles: bool = True) -> None:
        try:
            hold = await self.engine.hold_open(request(self.organization, self.cost), self.limits)
        except InsufficientQuota:
            return
        self.engine.call_opened(hold, call_of(self.organization))
        await asyncio.sleep(0.002)
        if settles:
            self.engine.call_settle(hold, DONE, self.cost)
            self.served += 1


async def main(url: str, journals: str, *numbers: str) -> None:
    organization, limit, cost, calls = map(int, numbers)
    engine = MoneyEngine(settings_for(url, Path(journals), timing=Timing(recall_wait=3.0)))
    await engine.start()
    spender = Spender(engine, organization, limit, cost)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    if not calls:
        for number in range(AT_ONCE):
            await spender.open_and_settle(settles=number % 2 == 0)
        print(spender.served, flush=True)
        await asyncio.Event().wait()
    for _ in range(calls // AT_ONCE):
        await asyncio.gather(*(spender.open_and_settle() for _ in range(AT_ONCE)))
    print(spender.served, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await engine.stop(10.0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
