from tests.adversary.conftest import empty_gateway, gateway, pytest_asyncio_loop_factories
from tests.committing import committing_db

__all__ = ["committing_db", "empty_gateway", "gateway", "pytest_asyncio_loop_factories"]
