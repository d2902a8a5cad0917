"""Requests that Schemathesis makes up from OpenAI's own specification, right ones and wrong ones.

Whatever they are: no 500, no HTML, and no call that reaches upstream without a hold and a record.
`make specification` tries many more.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from relay.endpoints.table import ID, BodyKind
from relay.tenancy import ownership
from tests.adversary.gateway import USD, Gateway
from tests.faults.http_client import Answer
from tests.relay.simulator.support import BOUNDARY
from tests.relay.surface.calls import BILLED, OFFERED, error_of, send

SPECIFICATION = schemathesis.openapi.from_dict(
    json.loads(Path(__file__).with_name("official_bodies.json").read_bytes())
)
NAMES = [name for name, row in OFFERED.items() if row.body is not BodyKind.NONE and ID not in name]
EXAMPLES = int(os.environ.get("SPECIFICATION_EXAMPLES", "10"))
PATIENCE_SECONDS = 60
# Each sold at its endpoint; what the specification makes up itself has no price.
MODELS = {
    "chat/completions": ["gpt-4o-mini", "gpt-5", "gpt-audio"],
    "completions": ["gpt-3.5-turbo-instruct", "babbage-002"],
    "embeddings": ["text-embedding-3-small", "text-embedding-ada-002"],
    "moderations": ["omni-moderation-latest"],
    "responses": ["gpt-5-mini", "gpt-4o"],
    "images/generations": ["gpt-image-1", "dall-e-3", "dall-e-2"],
    "images/edits": ["gpt-image-1", "dall-e-2"],
    "images/variations": ["dall-e-2"],
    "audio/speech": ["tts-1", "gpt-4o-mini-tts"],
    "audio/transcriptions": ["whisper-1", "gpt-4o-transcribe"],
    "audio/translations": ["whisper-1"],
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody made the ids that are made up here, so there is no use in waiting for them."""
    monkeypatch.setattr(ownership, "PATIENCE", ())


async def test_no_request_of_the_specification_is_unmetered_or_breaks_us(shop: Gateway) -> None:
    customer = await shop.customer(1_000 * USD)
    loop = asyncio.get_running_loop()

    def post(name: str, case: Case[Any], model: str | None) -> None:
        called = send(shop.workers[0], customer, name, body_of(case, model))
        check(name, asyncio.run_coroutine_threadsafe(called, loop).result(PATIENCE_SECONDS))

    await asyncio.to_thread(try_all, post)
    await shop.idle()
    for record in await shop.records(shop.arrived()):
        counted = record.prompt_tokens or record.completion_tokens or record.units
        assert record.charge_nano_usd > 0 or record.outcome != "completed" or not counted, record
    rows = shop.bank.connection.execute(
        "SELECT endpoint, min(hold_nano_usd), count(*) FROM billing_usagerecord GROUP BY endpoint"
    ).fetchall()
    # Every endpoint was reached, or this shows nothing.
    assert {endpoint for endpoint, _, _ in rows} == {OFFERED[name].name for name in NAMES}
    billed = {row.name for row in BILLED.values()}
    assert [row for row in rows if row[0] in billed and not row[1]] == []


def try_all(post: Any) -> None:
    for name in NAMES:
        path = name.partition(" ")[2]
        models = [None, *(MODELS.get(path) or MODELS["responses"]) * 2]
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            cases = SPECIFICATION[f"/{path}"]["POST"].as_strategy(generation_mode=mode)
            _try(post, name, cases, models)


def _try(post: Any, name: str, cases: Any, models: list[str | None]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=EXAMPLES < 100,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases, st.sampled_from(models))
    def one(case: Case[Any], model: str | None) -> None:
        post(name, case, model)

    one()


def check(name: str, answer: Answer) -> None:
    assert answer.is_whole, name
    kind = answer.headers.get("content-type", "")
    assert "html" not in kind, name
    if answer.status == 200:
        return
    assert 400 <= answer.status < 500, (name, answer)
    assert error_of(answer)["message"], name


def body_of(case: Case[Any], model: str | None) -> tuple[bytes, bytes]:
    """What it would be on the wire, with a model that is sold."""
    given = case.body
    if model is not None and isinstance(given, dict):
        given = given | {"model": model}
    if case.media_type == "multipart/form-data":
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return form_of(given if isinstance(given, dict) else {}), kind.encode()
    return json.dumps(given, default=str).encode(), b"application/json"


def form_of(fields: dict[str, Any]) -> bytes:
    written = b""
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            written += part_of(name, one)
    return written + f"--{BOUNDARY}--\r\n".encode()


def part_of(name: str, value: Any) -> bytes:
    quoted = name.translate({10: "%0A", 13: "%0D", 34: "%22"}).encode("utf-8", "replace").decode()
    head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{quoted}"'
    data = getattr(value, "data", value)
    if isinstance(data, bytes):
        head += '; filename="f"'
    else:
        text = data if isinstance(data, str) else json.dumps(data, default=str)
        data = text.encode("utf-8", "replace")
    return head.encode() + b"\r\n\r\n" + data + b"\r\n"
