import asyncio
import ssl
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from relay.upstream import Limits, UpstreamEngine
from tests.relay.upstream.certificates import Authority
from tests.relay.upstream.support import Script, Serve, Upstream


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every asynchronous test here runs on both event loops."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers that live as long as the test, whose scripts must not have failed."""
    upstreams: list[Upstream] = []

    async def start(script: Script, *, tls: ssl.SSLContext | None = None) -> Upstream:
        upstream = Upstream(script, tls=tls)
        await upstream.start()
        upstreams.append(upstream)
        return upstream

    yield start
    for upstream in upstreams:
        await upstream.stop()


@pytest.fixture
async def engine() -> AsyncIterator[UpstreamEngine]:
    engine = UpstreamEngine()
    yield engine
    await engine.close()


@pytest.fixture
async def make_engine() -> AsyncIterator[Callable[..., UpstreamEngine]]:
    """Make engines with limits of the test's own."""
    engines: list[UpstreamEngine] = []

    def make(**limits: object) -> UpstreamEngine:
        engine = UpstreamEngine(limits=Limits(**limits))  # type: ignore[arg-type]  # Named by tests.
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        await engine.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def ca_file(authority: Authority) -> str:
    return str(authority.ca_file)


@pytest.fixture
def server_context(authority: Authority) -> ssl.SSLContext:
    """What a server needs to be upstream.test."""
    return authority.server_context("upstream.test")
