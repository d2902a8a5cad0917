"""What upstream keeps for one tenant is not there for any other, whichever way it is named."""

import asyncio
import json
from typing import Any

import pytest

from relay.channels.services import NewChannel, channel_add
from tests.adversary.gateway import MODEL, USD, Customer, Gateway, Worker
from tests.adversary.upstream import json_response
from tests.factories import ACTOR
from tests.faults.http_client import Answer, Connection
from tests.relay.endpoints.support import SCRIPTED, ask, told, upstream_says
from tests.relay.endpoints.test_responses import response, usage

CREATING = ("responses", "responses/compact", "responses/input_tokens")
# Each place in a request that names something of upstream's.
NAMING: dict[str, Any] = {
    "previous_response_id": lambda one: {"previous_response_id": one},
    "conversation": lambda one: {"conversation": one},
    "conversation.id": lambda one: {"conversation": {"id": one}},
    "prompt.id": lambda one: {"prompt": {"id": one}},
    "prompt variable": lambda one: {
        "prompt": {"id": one, "variables": {"x": {"type": "input_file", "file_id": one}}}
    },
    "item_reference": lambda one: {"input": [{"type": "item_reference", "id": one}]},
    "item_reference without a type": lambda one: {"input": [{"id": one}]},
    "item_reference of no type": lambda one: {"input": [{"type": None, "id": one}]},
    "reasoning": lambda one: {"input": [{"type": "reasoning", "id": one, "summary": []}]},
    "picture made before": lambda one: {"input": [{"type": "image_generation_call", "id": one}]},
    "file": lambda one: {
        "input": [{"role": "user", "content": [{"type": "input_file", "file_id": one}]}]
    },
    "image": lambda one: {
        "input": [{"role": "user", "content": [{"type": "input_image", "file_id": one}]}]
    },
    "tool output": lambda one: {
        "input": [
            {"type": "function_call_output", "output": [{"type": "input_file", "file_id": one}]}
        ]
    },
    "vector store": lambda one: {"tools": [{"type": "file_search", "vector_store_ids": [one]}]},
    "container": lambda one: {"tools": [{"type": "code_interpreter", "container": one}]},
    "container files": lambda one: {
        "tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": [one]}}]
    },
    "shell": lambda one: {
        "tools": [{"type": "shell", "environment": {"type": "x", "container_id": one}}]
    },
    "mask": lambda one: {
        "tools": [{"type": "image_generation", "input_image_mask": {"file_id": one}}]
    },
}


async def created(gateway: Gateway, customer: Customer, **fields: Any) -> str:
    """The id of a response that the customer has made."""
    answer = await ask(gateway, customer, "responses", {"model": MODEL, "input": "x", **fields})
    assert answer.status == 200
    found = json.loads(answer.body)["id"]
    assert isinstance(found, str)
    return found


async def with_method(worker: Worker, method: str, path: str, customer: Customer) -> Answer:
    async with Connection(worker.port) as link:
        return await link._ask(
            f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n", customer.api_key, b""
        )


@pytest.mark.parametrize("name", NAMING)
async def test_nothing_of_a_strangers_can_be_named(gateway: Gateway, name: str) -> None:
    owner, stranger = await gateway.customer(USD), await gateway.customer(USD)
    of_owner = await created(gateway, owner)
    seen = gateway.arrived()
    asked = [
        ask(gateway, stranger, path, {"model": MODEL, "input": "x", **NAMING[name](one)})
        for path in CREATING
        for one in (of_owner, "resp_nobody")
    ]
    answers = await asyncio.gather(*asked)
    assert [answer.status for answer in answers] == [404] * len(answers)
    assert {told(answer)["code"] for answer in answers} == {"not_found"}
    assert gateway.arrived() == seen


@pytest.mark.parametrize(
    ("method", "behind"),
    [
        ("GET", ""),
        ("GET", "?stream=true"),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("GET", "/input_items"),
        ("GET", "/input_items?limit=1"),
    ],
)
async def test_nothing_stored_is_there_for_a_stranger(
    gateway: Gateway, method: str, behind: str
) -> None:
    owner, stranger = await gateway.customer(USD), await gateway.customer(0)
    of_owner = await created(gateway, owner)
    seen = gateway.arrived()
    answer = await with_method(
        gateway.workers[0], method, f"/v1/responses/{of_owner}{behind}", stranger
    )
    assert (answer.status, told(answer)["code"]) == (404, "not_found")
    assert gateway.arrived() == seen


async def test_the_owner_reads_and_deletes_at_every_worker_at_once(gateway: Gateway) -> None:
    other = await gateway.worker()
    owner = await gateway.customer(USD)
    one = await created(gateway, owner)
    read = await with_method(other, "GET", f"/v1/responses/{one}", owner)
    assert json.loads(read.body)["id"] == one
    items = await with_method(other, "GET", f"/v1/responses/{one}/input_items?limit=1", owner)
    (item,) = json.loads(items.body)["data"]
    more = f"/v1/responses/{one}/input_items?after={item['id']}"
    assert (await with_method(other, "GET", more, owner)).status == 200
    stranger = "/v1/responses/{}/input_items?after=msg_nobody"
    assert (await with_method(other, "GET", stranger.format(one), owner)).status == 404
    assert (await with_method(other, "DELETE", f"/v1/responses/{one}", owner)).status == 200
    assert (await with_method(other, "GET", f"/v1/responses/{one}", owner)).status == 404
    records = await gateway.records(6)
    assert [record.charge_nano_usd > 0 for record in records] == [True, *[False] * 5]
    assert {record.hold_nano_usd for record in records[1:]} == {0}


async def test_an_id_works_as_soon_as_a_stream_names_it(gateway: Gateway) -> None:
    other = await gateway.worker()
    owner = await gateway.customer(USD)
    body = {"model": MODEL, "input": "x", "stream": True}
    answer = await ask(gateway, owner, "responses", body)
    first = answer.body.split(b"\n\n")[0].split(b"data: ")[1]
    one = json.loads(first)["response"]["id"]
    async with Connection(other.port) as link:
        next_one = {"model": MODEL, "input": "y", "previous_response_id": one}
        answer = await link.post("/v1/responses", owner.api_key, json.dumps(next_one).encode())
    assert answer.status == 200


async def test_what_follows_goes_to_the_channel_that_it_lives_on(gateway: Gateway) -> None:
    owner = await gateway.customer(USD)
    document = response(usage=usage(1, 1), id="resp_first")
    first = await upstream_says(gateway, json_response(200, document))
    assert (await ask(gateway, owner, "responses", {"model": SCRIPTED, "input": "x"})).status == 200
    port = gateway._simulator_server.port
    new = NewChannel(
        name="preferred",
        base_url=f"http://127.0.0.1:{port}/v1",
        credential="any",
        models=[SCRIPTED],
    )

    def prefer() -> None:
        channel = channel_add(new=new, actor=ACTOR)
        channel.priority = 10
        channel.save()

    await gateway.change(prefer)
    body = {"model": SCRIPTED, "input": "y", "previous_response_id": "resp_first"}
    assert (await ask(gateway, owner, "responses", body)).status == 200
    assert [json.loads(one)["input"] for one in first] == ["x", "y"]
    await ask(gateway, owner, "responses", {"model": SCRIPTED, "input": "z"})
    assert gateway.arrived() == 1


@pytest.mark.parametrize(
    "spelled",
    [
        b'{"model":"%s","input":"x","previous\\u005fresponse_id":"resp_nobody"}',
        b'{"model":"%s","input":[{"\\u0069d":"resp_nobody"}]}',
        b'{"model":"%s","tools":[{"type":"x","f\\u0069le_id":"resp_nobody"}],"input":"x"}',
    ],
)
async def test_no_spelling_hides_an_id(gateway: Gateway, spelled: bytes) -> None:
    customer = await gateway.customer(USD)
    answer = await ask(gateway, customer, "responses", spelled % MODEL.encode())
    assert (answer.status, told(answer)["code"]) == (404, "not_found")
    assert gateway.arrived() == 0


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]},
        {"role": "assistant", "audio": {"id": "audio_1"}},
    ],
)
async def test_a_chat_names_nothing_of_a_strangers_either(
    gateway: Gateway, message: dict[str, Any]
) -> None:
    customer = await gateway.customer(USD)
    body = {"model": MODEL, "messages": [message]}
    answer = await ask(gateway, customer, "chat/completions", body)
    assert (answer.status, told(answer)["code"]) == (404, "not_found")
    assert gateway.arrived() == 0


async def test_what_says_everything_itself_names_nothing(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    given = [
        {"type": "message", "id": "msg_1", "role": "user", "content": "file_id"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"role": "user", "content": [{"type": "input_text", "text": '"file_id": "file-1"'}]},
    ]
    got = await upstream_says(gateway, json_response(200, response(usage=usage(1, 1))))
    body = {"model": SCRIPTED, "input": given, "previous_response_id": None, "conversation": None}
    assert (await ask(gateway, customer, "responses", body)).status == 200
    assert json.loads(got[0]) == body


@pytest.mark.parametrize("one", ["..", "a/b", "a%2Fb", "a?b", "x" * 300, "a%00"])
async def test_no_id_leaves_its_place_in_the_path(gateway: Gateway, one: str) -> None:
    customer = await gateway.customer(USD)
    answer = await with_method(gateway.workers[0], "GET", f"/v1/responses/{one}", customer)
    assert answer.status == 404
    assert gateway.arrived() == 0
