import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from relay.simulator.tokens import Tokenizer
from tests.adversary.gateway import MODEL, Gateway
from tests.committing import committing_db

__all__ = ["committing_db"]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop that workers have."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session", autouse=True)
def vocabulary() -> None:
    """Loaded before the first answer, which would have to wait for it."""
    Tokenizer(MODEL)


@pytest.fixture
async def empty_gateway(committing_db: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway without workers; after every test its books must be in order."""
    async with Gateway(database_url=committing_db, folder=tmp_path) as gateway:
        yield gateway
        await gateway.check_books()


@pytest.fixture
async def gateway(empty_gateway: Gateway) -> Gateway:
    """A gateway with one worker; after every test its books must be in order."""
    await empty_gateway.worker()
    return empty_gateway
