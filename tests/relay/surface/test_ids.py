"""Every id field of every endpoint: a stranger's is nobody's; one's own works at every worker."""

import asyncio
import json
from typing import Any

import pytest

from tests.adversary.gateway import SCRIPTED, USD, Gateway
from tests.adversary.upstream import json_response
from tests.relay.endpoints.support import upstream_says
from tests.relay.endpoints.test_ownership import NAMING, created
from tests.relay.surface.calls import OFFERED, error_of, send

FIELDS: dict[str, dict[str, Any]] = {
    "chat/completions": {
        "file": lambda one: said({"type": "file", "file": {"file_id": one}}),
        "recording": lambda one: {"messages": [{"role": "assistant", "audio": {"id": one}}]},
        "voice": lambda one: {"audio": {"format": "wav", "voice": {"id": one}}},
        "voice of a text": lambda one: {"modalities": ["text"], "audio": {"voice": {"id": one}}},
    },
    "audio/speech": {"voice": lambda one: {"voice": {"id": one}}},
    "images/edits": {
        "image": lambda one: {"images": [{"file_id": one}]},
        "mask": lambda one: {"images": [{"image_url": "data:,"}], "mask": {"file_id": one}},
    },
    "responses": {
        "tunnel": lambda one: {"tools": [{"type": "mcp", "server_label": "x", "tunnel_id": one}]},
        "skill": lambda one: environment(
            {"skills": [{"type": "skill_reference", "skill_id": one}]}
        ),
        "shell files": lambda one: environment({"file_ids": [one]}),
        "approval": lambda one: given(
            {"type": "mcp_approval_response", "approval_request_id": one, "approve": True}
        ),
        "code that ran": lambda one: given(
            {"type": "code_interpreter_call", "id": "ci_1", "container_id": one, "code": ""}
        ),
        "shell that ran": lambda one: given(
            {"type": "shell_call", "environment": {"type": "x", "container_id": one}}
        ),
        "picture of a computer": lambda one: given(
            {"type": "computer_call_output", "output": {"type": "x", "file_id": one}}
        ),
        "what a search found": lambda one: given(
            {"type": "file_search_call", "id": "fs_1", "results": [{"file_id": one}]}
        ),
        "citation": lambda one: given(cited(one)),
        "citation's container": lambda one: given(cited(container_id=one)),
        "tools found": lambda one: given(
            {"type": "x", "tools": [{"type": "file_search", "vector_store_ids": [one]}]}
        ),
        "container of tools found": lambda one: given(
            {"type": "x", "tools": [{"type": "code_interpreter", "container": one}]}
        ),
    },
}
for creating in ("responses/compact", "responses/input_tokens"):
    FIELDS[creating] = FIELDS["responses"]
CASES = [
    (path, field)
    for path, fields in FIELDS.items()
    for field in fields
    if f"POST {path}" in OFFERED
]


def said(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


def given(item: dict[str, Any]) -> dict[str, Any]:
    return {"input": [item]}


def environment(members: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [{"type": "shell", "environment": {"type": "container_auto", **members}}]}


def cited(file_id: str = "", *, container_id: str = "") -> dict[str, Any]:
    citation = {"type": "container_file_citation", "file_id": file_id, "container_id": container_id}
    text = {"type": "output_text", "text": "x", "annotations": [citation]}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [text]}


USUAL: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]},
    "audio/speech": {"model": "gpt-4o-mini-tts", "input": "x"},
    "images/edits": {"model": "gpt-image-1", "prompt": "x"},
    "responses": {"model": "gpt-4o-mini", "input": "x"},
    "responses/compact": {"model": "gpt-4o-mini", "input": "x"},
    "responses/input_tokens": {"model": "gpt-4o-mini", "input": "x"},
}


async def test_a_strangers_id_is_nobodys(shop: Gateway) -> None:
    of_owner = await created(shop, await shop.customer(USD))
    seen = shop.arrived()
    strangers = [await shop.customer(USD) for _ in CASES]
    ids = (of_owner, "x" * len(of_owner))
    calls = [
        send(
            shop.workers[0],
            stranger,
            f"POST {path}",
            json_body(USUAL[path] | FIELDS[path][field](one)),
        )
        for stranger, (path, field) in zip(strangers, CASES, strict=True)
        for one in ids
    ]
    answers = await asyncio.gather(*calls)
    for at, case in enumerate(CASES):
        pair = answers[2 * at : 2 * at + 2]
        assert [answer.status for answer in pair] == [404, 404], case
        errors = [
            json.dumps(error_of(answer)).replace(one, "ID")
            for answer, one in zip(pair, ids, strict=True)
        ]
        assert errors[0] == errors[1], case
        assert json.loads(errors[0])["code"] == "not_found"
        assert "`ID`" in errors[0]
    assert shop.arrived() == seen


async def test_a_list_is_read_from_ones_own_items_on(shop: Gateway) -> None:
    owner, stranger = await shop.customer(USD), await shop.customer(USD)
    lists = "GET responses/{}/input_items"
    of_owner, own = [await created(shop, one) for one in (owner, stranger)]
    items = await send(shop.workers[0], owner, lists.format(of_owner))
    (item,) = json.loads(items.body)["data"]
    seen = shop.arrived()
    for query in ("?after={}", "?before={}", "?limit=1&after={}", "?after=x&after={}"):
        path = lists.format(own) + query.format(item["id"])
        answer = await send(shop.workers[0], stranger, path)
        assert (answer.status, error_of(answer)["code"]) == (404, "not_found"), query
    assert shop.arrived() == seen


CONTAINER, FILE, MESSAGE = "cntr_own", "cfile_own", "msg_own"
USAGE = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
RESPONSE = {
    "id": "resp_own",
    "object": "response",
    "status": "completed",
    "model": SCRIPTED,
    "output": [
        {
            "type": "code_interpreter_call",
            "id": "ci_own",
            "status": "completed",
            "container_id": CONTAINER,
        },
        {**cited(FILE, container_id=CONTAINER), "id": MESSAGE},
    ],
    "usage": USAGE,
}
OWN: dict[str, dict[str, Any]] = {
    "previous response": NAMING["previous_response_id"]("resp_own"),
    "item reference": NAMING["item_reference"](MESSAGE),
    "container": {"input": [{"role": "user", "container_id": CONTAINER, "content": "x"}]},
    "replayed output": {"input": RESPONSE["output"]},
    "file in a container": {"input": [cited(FILE)]},
}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_own_id_works_at_every_worker_at_once(shop: Gateway, *, stream: bool) -> None:
    other = await shop.worker()
    got = await upstream_says(shop, *said_by_upstream(stream=stream))
    strangers = []
    for name, named in OWN.items():
        owner, stranger = await shop.customer(USD), await shop.customer(USD)
        first = {"model": SCRIPTED, "input": "x", "stream": stream}
        answer = await send(shop.workers[0], owner, "POST responses", json_body(first))
        assert answer.status == 200
        following = json_body({"model": SCRIPTED, "input": "y", "stream": stream} | named)
        assert (await send(other, owner, "POST responses", following)).status == 200, name
        strangers.append(send(other, stranger, "POST responses", following))
    refused = await asyncio.gather(*strangers)
    assert [answer.status for answer in refused] == [404] * len(OWN)
    assert len(got) == 2 * len(OWN)


def json_body(fields: dict[str, Any]) -> tuple[bytes, bytes]:
    return json.dumps(fields).encode(), b"application/json"


def said_by_upstream(*, stream: bool) -> list[bytes]:
    if not stream:
        return [json_response(200, RESPONSE)]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    output = RESPONSE["output"]
    assert isinstance(output, list)
    begun = {"type": "response.created", "response": RESPONSE | {"output": [], "usage": None}}
    done = [
        {"type": "response.output_item.done", "output_index": at, "item": item}
        for at, item in enumerate(output)
    ]
    events = [begun, *done, {"type": "response.completed", "response": RESPONSE}]
    return [
        head,
        *(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events),
    ]
