"""Whole calls through a gateway in the test's own event loop; its books are checked at the end."""

from tests.adversary.conftest import empty_gateway, gateway, pytest_asyncio_loop_factories

__all__ = ["empty_gateway", "gateway", "pytest_asyncio_loop_factories"]
