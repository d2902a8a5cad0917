"""Whole calls through a gateway with the official price book; its books are checked at the end."""

import pytest

from billing.prices.book_loading import price_book_load
from tests.adversary.conftest import empty_gateway, gateway, pytest_asyncio_loop_factories
from tests.adversary.gateway import Gateway, now
from tests.factories import ACTOR

__all__ = ["empty_gateway", "gateway", "pytest_asyncio_loop_factories"]


@pytest.fixture
async def shop(gateway: Gateway) -> Gateway:
    """A gateway with one worker that sells what the official price book has."""
    await gateway.change(lambda: price_book_load(actor=ACTOR, now=now()))
    return gateway
