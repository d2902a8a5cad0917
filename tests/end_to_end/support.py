"""Customers of a live gateway, the bodies that they send, and what the upstream saw of them."""

import json
import uuid
from dataclasses import dataclass, replace
from typing import Any

import httpx2

from tests.end_to_end.live import LiveGateway, wait_for

# Priced by the tests at 10 and 30 USD per 1M tokens; half of that is charged.
MODEL = "e2e-model"
INPUT_NANO_USD = 5_000
OUTPUT_NANO_USD = 15_000
CHAT = "/v1/chat/completions"


def chat_body(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


def charge_of(prompt_tokens: int, completion_tokens: int) -> int:
    """What a call of MODEL costs at the usual discount, in nano-USD."""
    return prompt_tokens * INPUT_NANO_USD + completion_tokens * OUTPUT_NANO_USD


def new_tag() -> str:
    """Finds the calls of one test among all that the simulator has seen."""
    return uuid.uuid4().hex


@dataclass(frozen=True, kw_only=True)
class Customer:
    """An organization and a key of it, at a live gateway."""

    gateway: LiveGateway
    http: httpx2.Client
    organization: str
    project: str
    api_key: str
    prefix: str

    @property
    def authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"}

    def post(
        self, body: dict[str, Any] | bytes, path: str = CHAT, **headers: str
    ) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(path, content=content, headers={**self.authorization, **named})

    def chat(self, text: str = "Hello", **fields: Any) -> httpx2.Response:
        return self.post(chat_body(text, **fields))

    def get(self, path: str, **parameters: str | int) -> httpx2.Response:
        return self.http.get(path, params=parameters or None, headers=self.authorization)

    def records(self, **parameters: str | int) -> list[dict[str, Any]]:
        return list(self.ask("/v1/usage/records", **parameters)["data"])

    def record(self, reply: httpx2.Response) -> dict[str, Any]:
        """The record of a call, as soon as it is there."""
        return self.record_of(reply.headers["x-request-id"])

    def record_of(self, request_id: str) -> dict[str, Any]:
        def find() -> dict[str, Any] | None:
            found = self.records()
            return next((one for one in found if one["request_id"] == request_id), None)

        found = wait_for(find, f"the record of {request_id}")
        assert found is not None
        return found

    def balance(self) -> int:
        return int(self.ask("/v1/usage")["balance_nano_usd"])

    def ask(self, path: str, **parameters: str | int) -> dict[str, Any]:
        reply = self.get(path, **parameters)
        assert reply.status_code == 200, reply.text
        answer: dict[str, Any] = reply.json()
        return answer


def everything_is_recorded(witness: Customer) -> None:
    """Return when all that was called up to now is in the database.

    A worker ships its records in their order, so one more call of each is a mark behind them.
    """
    with witness.gateway.worker_clients() as clients:
        marks = [replace(witness, http=client).chat() for client in clients]
    for mark in marks:
        witness.record(mark)


def organization_create(gateway: LiveGateway, http: httpx2.Client, *arguments: str) -> Customer:
    """A new organization's first customer."""
    created = gateway.manage("organization_create", *arguments)
    return customer_of(gateway, http, created["organization"])


def customer_of(gateway: LiveGateway, http: httpx2.Client, organization: str) -> Customer:
    """A new key of an organization that exists."""
    issued = gateway.manage("api_key_issue", organization)
    return Customer(
        gateway=gateway,
        http=http,
        organization=issued["organization"],
        project=issued["project"],
        api_key=issued["api_key"],
        prefix=issued["prefix"],
    )


@dataclass(frozen=True)
class Upstream:
    """The simulated upstream, asked directly."""

    http: httpx2.Client

    def chat(self, body: bytes) -> httpx2.Response:
        return self.http.post(CHAT, content=body, headers={"authorization": "Bearer direct"})

    def count(self, tag: str) -> int:
        return int(self._received(tag)["total"])

    def received(self, tag: str) -> dict[str, Any]:
        """The one request that came with this tag."""
        answer = self._received(tag)
        assert answer["total"] == 1, f"{answer['total']} requests came"
        request: dict[str, Any] = answer["data"][0]
        return request

    def all_received(self, tag: str) -> list[dict[str, Any]]:
        return list(self._received(tag)["data"])

    def _received(self, tag: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get("/simulator/requests", params={"tag": tag}).json()
        return answer


def events_of(stream: bytes) -> list[bytes]:
    """The data of each event, in a stream that has nothing but plain ones."""
    assert stream.endswith(b"\n\n"), "the last event has no end"
    events = stream.removesuffix(b"\n\n").split(b"\n\n")
    assert all(event.startswith(b"data: ") and b"\n" not in event for event in events), stream
    return [event.removeprefix(b"data: ") for event in events]


def texts_of(stream: bytes) -> str:
    """What the model said in a stream, up to its end or its error."""
    chunks = [json.loads(event) for event in events_of(stream) if event != b"[DONE]"]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", ())]
    return "".join(delta.get("content") or "" for delta in deltas)


def error_of(reply: httpx2.Response) -> dict[str, Any]:
    """The error of a reply, whose shape and headers are those that every client relies on."""
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.headers["access-control-allow-origin"] == "*"
    document: dict[str, Any] = reply.json()
    assert document.keys() == {"error"}
    error: dict[str, Any] = document["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    return error
