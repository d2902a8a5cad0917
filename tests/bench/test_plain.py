"""The relay without billing answers as the product does, or its figures would mean nothing."""

import asyncio
import shutil
from collections.abc import Iterator

import httpx2
import pytest

from bench.candidates.base import Bench
from bench.candidates.billing_off import BillingOff
from bench.load import upstream_start
from bench.machine import Cores
from bench.payloads import PATH, chat_body, stream_model
from bench.workshop import compile_programs

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BillingOff]:
    folder = tmp_path_factory.mktemp("plain")
    cores = Cores.of_this_machine()
    programs = compile_programs(folder / "programs")
    upstream, port = upstream_start(programs, cores=cores.load, log=folder / "upstream.log")
    candidate = BillingOff(Bench(folder=folder, cores=cores, upstream_port=port))
    try:
        candidate.start()
        yield candidate
    finally:
        candidate.stop()
        upstream.stop()


async def post(relay: BillingOff, body: bytes, **headers: str) -> httpx2.Response:
    url = f"http://127.0.0.1:{relay.port}{PATH}"
    async with httpx2.AsyncClient() as client:
        return await client.post(url, content=body, headers={**dict(relay.headers), **headers})


async def test_a_call_is_relayed(relay: BillingOff) -> None:
    reply = await post(relay, chat_body())
    assert reply.status_code == 200
    assert reply.json()["usage"]["total_tokens"] == 290
    assert reply.headers["x-request-id"].startswith("req_")


async def test_a_stream_is_relayed(relay: BillingOff) -> None:
    body = chat_body(model=stream_model(3, 1), stream=True)
    replies = await asyncio.gather(*(post(relay, body) for _ in range(2)))
    for reply in replies:
        assert reply.text.count('"content":"@') == 3
        assert reply.text.endswith("data: [DONE]\n\n")


async def test_another_key_is_refused(relay: BillingOff) -> None:
    reply = await post(relay, chat_body(), authorization="Bearer sk-invented")
    assert reply.status_code == 401


def test_its_processes_are_known(relay: BillingOff) -> None:
    assert relay.processes()["relay"]
    assert relay.memory() > 0
