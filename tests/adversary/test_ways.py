"""Calls through proxies, HTTP/2 and Azure: what upstream sees, and what the customer pays."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from relay.channels.services import ChannelTerms, NewChannel, channel_add, channel_set
from tests.adversary.gateway import SCRIPTED, USD, Customer, Gateway, body_of, charge_of
from tests.adversary.upstream import DONE, answer, events_of, said, usage_chunk, usage_of
from tests.factories import ACTOR
from tests.relay.upstream.certificates import Authority
from tests.relay.upstream.proxies import FORBIDDEN, PASSWORD, USER, Seen, http_proxy, socks_proxy
from tests.relay.upstream.support import Peer, Upstream

Script = Callable[[Peer], Awaitable[None]]
PRICE = charge_of(9, 2)
WHOLE = answer({"content": "one two"}, usage=usage_of(9, 2)).partition(b"\r\n\r\n")[2]
STREAM = said("one") + said(" two") + usage_chunk(9, 2) + DONE


@dataclass
class Vendor:
    """An upstream that answers chat calls, and remembers what it was asked."""

    heads: list[bytes] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def reply(self, head: bytes, body: bytes) -> tuple[bytes, bytes]:
        """The type of the answer, and its body."""
        self.heads.append(head)
        self.bodies.append(json.loads(body))
        streamed = self.bodies[-1].get("stream")
        return (b"text/event-stream", STREAM) if streamed else (b"application/json", WHOLE)

    async def http1(self, peer: Peer) -> None:
        while True:
            kind, body = self.reply(*await peer.request())
            head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
            await peer.send(head % (kind, len(body)) + body)

    async def http2(self, peer: Peer) -> None:
        protocol = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        protocol.initiate_connection()
        heads: dict[int, bytes] = {}
        bodies: dict[int, bytes] = {}
        await peer.send(protocol.data_to_send())
        while data := await peer.reader.read(65536):
            for event in protocol.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    pairs = (name + b": " + value for name, value in event.headers)
                    heads[event.stream_id], bodies[event.stream_id] = b"\r\n".join(pairs), b""
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    number = event.stream_id
                    kind, body = self.reply(heads.pop(number), bodies.pop(number))
                    protocol.send_headers(number, [(":status", "200"), ("content-type", kind)])
                    protocol.send_data(number, body, end_stream=True)
            await peer.send(protocol.data_to_send())


@dataclass
class Scene:
    gateway: Gateway
    authority: Authority
    customer: Customer
    vendor: Vendor = field(default_factory=Vendor)
    servers: list[Upstream] = field(default_factory=list)

    async def serve(self, script: Script, *, tls: bool = False, http2: bool = False) -> int:
        """Start a server; returns its port."""
        context = self.authority.server_context("localhost") if tls else None
        if context is not None and http2:
            context.set_alpn_protocols(["h2"])
        server = Upstream(script, tls=context)
        await server.start()
        self.servers.append(server)
        return server.port

    async def channel(self, name: str, base_url: str, **terms: Any) -> None:
        new = NewChannel(
            name=name,
            base_url=base_url,
            credential="sk-secret",
            models=[SCRIPTED],
            cost_ppm=400_000,
            terms=ChannelTerms(**{"priority": 1, **terms}),
        )
        await self.gateway.change(lambda: channel_add(new=new, actor=ACTOR))

    async def check_calls(self, channel: str) -> None:
        """One whole call and one stream, each served by that channel and charged once."""
        whole = await self.gateway.call(self.customer, body_of(model=SCRIPTED))
        assert (whole.status, whole.body) == (200, WHOLE)
        body = body_of(model=SCRIPTED, stream=True)
        streamed = events_of(await self.gateway.call(self.customer, body))
        text = [event["choices"][0]["delta"]["content"] for event in streamed]
        assert text == ["one", " two"]
        records = await self.gateway.records(2)
        for record in records:
            assert (record.channel, record.charge_nano_usd) == (channel, PRICE)
            assert record.usage_source == "upstream"
            assert record.upstream_cost_nano_usd == 2 * PRICE * 2 // 5
        assert self.gateway.balance(self.customer) == USD - 2 * PRICE
        assert len(self.vendor.heads) == 2


@pytest.fixture
async def scene(
    empty_gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    await empty_gateway.worker()
    scene = Scene(empty_gateway, authority, await empty_gateway.customer(USD))
    yield scene
    for server in scene.servers:
        await server.stop()


async def test_calls_by_tls_through_an_http_proxy(scene: Scene) -> None:
    seen: Seen = []
    port = await scene.serve(scene.vendor.http1, tls=True)
    proxy = await scene.serve(http_proxy(seen))
    url = f"http://{USER}:{PASSWORD}@127.0.0.1:{proxy}"
    await scene.channel("proxied", f"https://localhost:{port}/v1", proxy=url)
    await scene.check_calls("proxied")
    assert set(seen) == {("localhost", port)}
    assert all(b"authorization: bearer sk-secret" in head.lower() for head in scene.vendor.heads)
    assert not any(PASSWORD.encode() in head for head in scene.vendor.heads)


@pytest.mark.parametrize("tls", [False, True])
async def test_calls_through_a_socks_proxy(scene: Scene, *, tls: bool) -> None:
    seen: Seen = []
    port = await scene.serve(scene.vendor.http1, tls=tls)
    proxy = await scene.serve(socks_proxy(seen))
    url = f"socks5h://{USER}:{PASSWORD}@127.0.0.1:{proxy}"
    base_url = f"http{'s' if tls else ''}://localhost:{port}/v1"
    await scene.channel("proxied", base_url, proxy=url)
    await scene.check_calls("proxied")
    assert set(seen) == {("localhost", port)}


async def test_calls_by_http2(scene: Scene) -> None:
    port = await scene.serve(scene.vendor.http2, tls=True, http2=True)
    await scene.channel("second", f"https://localhost:{port}/v1", http2=True)
    await scene.check_calls("second")
    assert all(b":path: /v1/chat/completions" in head for head in scene.vendor.heads)
    assert scene.servers[0].accepted == 1


async def test_calls_to_azure(scene: Scene) -> None:
    port = await scene.serve(scene.vendor.http1)
    await scene.channel(
        "azure",
        f"http://127.0.0.1:{port}",
        kind="azure",
        api_version="2024-10-21",
        model_map={SCRIPTED: "my-gpt"},
        headers={"x-team": "relay"},
    )
    await scene.check_calls("azure")
    target = b"/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
    for head in scene.vendor.heads:
        assert head.startswith(b"POST " + target + b" HTTP/1.1\r\n")
        assert b"\r\napi-key: sk-secret\r\n" in head
        assert b"\r\nx-team: relay\r\n" in head
        assert b"authorization" not in head.lower()
    assert {body["model"] for body in scene.vendor.bodies} == {"my-gpt"}
    (record, _) = await scene.gateway.records(2)
    assert record.model == SCRIPTED


async def test_a_proxy_that_lets_nobody_through_loses_no_call(scene: Scene) -> None:
    seen: Seen = []
    port = await scene.serve(scene.vendor.http1, tls=True)
    proxy = await scene.serve(http_proxy(seen, answer=FORBIDDEN))
    url = f"http://{USER}:{PASSWORD}@127.0.0.1:{proxy}"
    base_url = f"https://localhost:{port}/v1"
    await scene.channel("proxied", base_url, proxy=url, priority=2)
    await scene.channel("direct", base_url)
    await scene.check_calls("direct")
    for record in await scene.gateway.records(2):
        assert record.attempts is not None
        assert [one["outcome"] for one in record.attempts] == ["unreachable", "completed"]


async def test_a_retired_name_is_served_by_a_living_model(scene: Scene) -> None:
    port = await scene.serve(scene.vendor.http1)
    await scene.channel("mapped", f"http://127.0.0.1:{port}/v1", model_map={SCRIPTED: "living"})
    await scene.check_calls("mapped")
    assert {body["model"] for body in scene.vendor.bodies} == {"living"}
    mapped = ChannelTerms(model_map={SCRIPTED: "newer"})
    await scene.gateway.change(lambda: channel_set(name="mapped", terms=mapped, actor=ACTOR))
    await scene.gateway.call(scene.customer, body_of(model=SCRIPTED))
    assert scene.vendor.bodies[-1]["model"] == "newer"
