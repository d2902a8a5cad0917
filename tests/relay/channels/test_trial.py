"""The live call by which an operator tries a channel, on a simulated upstream."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from relay.channels.services import (
    ChannelTerms,
    NewChannel,
    channel_add,
    channel_disable,
    channel_set,
)
from relay.channels.trial import channel_test
from relay.simulator.asgi import Simulator
from tests.adversary.gateway import HttpServer
from tests.commands import ask_in_vain, complain
from tests.committing import committing_db
from tests.factories import ACTOR

__all__ = ["committing_db"]


@pytest.fixture
def simulator_url() -> Iterator[str]:
    """A simulated upstream in an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> HttpServer:
        server = HttpServer(Simulator())
        await server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    yield f"http://127.0.0.1:{server.port}/v1"
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def channel(committing_db: str, simulator_url: str, settings: Any) -> None:
    settings.DATABASE_URL = committing_db
    new = NewChannel(name="main", base_url=simulator_url, credential="sk-one")
    channel_add(new=new, actor=ACTOR)
    channel_set(name="main", terms=ChannelTerms(), credentials={"two": "sk-two"}, actor=ACTOR)


@pytest.mark.usefixtures("channel")
@pytest.mark.parametrize("stream", [False, True])
def test_each_credential_is_tried(*, stream: bool) -> None:
    channel_disable(name="main", actor=ACTOR)  # It is tried before it is enabled.
    trials = channel_test(name="main", stream=stream)
    assert [(trial["credential"], trial["ok"], trial["status"]) for trial in trials] == [
        ("main", True, 200),
        ("two", True, 200),
    ]
    for trial in trials:
        assert trial["first_byte_ms"] is not None
        assert trial["first_byte_ms"] <= trial["total_ms"]
        assert trial["error"] == ""


@pytest.mark.usefixtures("channel")
@pytest.mark.parametrize("http2", [False, True])
def test_what_is_wrong_is_told(*, http2: bool) -> None:
    terms = ChannelTerms(base_url="http://127.0.0.1:1/v1", http2=http2)
    channel_set(name="main", terms=terms, actor=ACTOR)
    answer = ask_in_vain("channel_test", "main", "--stream")
    assert (answer["ok"], answer["stream"], len(answer["credentials"])) == (False, True, 2)
    assert answer["credentials"][0]["status"] is None
    assert answer["credentials"][0]["error"]
    assert "main: FAILED after" in complain("channel_test", "main")


@pytest.mark.usefixtures("channel")
def test_an_upstreams_refusal_is_told(simulator_url: str) -> None:
    terms = ChannelTerms(base_url=simulator_url + "/nowhere")
    channel_set(name="main", terms=terms, actor=ACTOR)
    [trial, _] = channel_test(name="main")
    assert (trial["ok"], trial["status"]) == (False, 404)
    assert trial["error"].startswith("Upstream answered 404")


@pytest.mark.usefixtures("channel")
def test_an_unknown_channel_cannot_be_tried() -> None:
    with pytest.raises(CommandError, match="no channel 'nobody'"):
        call_command("channel_test", "nobody")
