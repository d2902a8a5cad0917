import asyncio
from collections.abc import Callable

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop that workers have, and the one that anybody has."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
