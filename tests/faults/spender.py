"""A process with an engine that spends, says so, and goes on until it is killed.

Arguments: the database's URL, the folder of the journals, the organization, hold and cost of a
call, and how many of them.
"""

import asyncio
import sys
from pathlib import Path

import django

django.setup()  # What the engine's tests share reads an application's module.

from billing.engine import MoneyEngine  # noqa: E402  As above.
from tests.billing.engine.support import settings_for, spend  # noqa: E402  As above.


async def main(url: str, journals: str, *numbers: str) -> None:
    organization, hold, cost, calls = map(int, numbers)
    engine = MoneyEngine(settings_for(url, Path(journals)))
    await engine.start()
    for _ in range(calls):
        await spend(engine, organization, hold, cost)
    print("spent", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
