"""Agents for programmers, started as on a command line: what they print and what it costs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.clients.support import ENVIRONMENTS, HERE, MARKS, new_payer, paid_calls, run
from tests.end_to_end.live import LiveGateway
from tests.end_to_end.support import MODEL, Customer, new_tag

AIDER = ENVIRONMENTS / "aider" / "bin" / "aider"
CODEX = HERE / "codex" / "node_modules" / "@openai" / "codex" / "bin" / "codex.js"
# Whatever it would fetch from elsewhere is switched off: this is about its calls to the gateway.
SETTINGS = 'model = "{model}"\nweb_search = "disabled"\n{more}\n[features]\nplugins = false\n'
ITS_OWN = 'openai_base_url = "{base_url}"'
PROVIDER = """model_provider = "tollgate"

[model_providers.tollgate]
name = "Tollgate"
base_url = "{base_url}"
env_key = "GATEWAY_KEY"
wire_api = "responses"
"""
STRANGER = "sk-x"


@contextmanager
def log_of(gateway: LiveGateway) -> Iterator[list[dict[str, Any]]]:
    """The calls that reach the gateway meanwhile, refused ones too; there at the end."""
    calls: list[dict[str, Any]] = []
    before = gateway.log_file.stat().st_size
    yield calls
    marks = [f"/v1/{new_tag()}" for _ in gateway.workers]
    with gateway.worker_clients() as clients:
        for client, mark in zip(clients, marks, strict=True):
            client.get(mark)
    gateway.log_when_it_has(*marks)
    with gateway.log_file.open("rb") as log:
        log.seek(before)
        lines = [json.loads(line) for line in log.read().splitlines() if line.startswith(b"{")]
    calls += [
        line
        for line in lines
        if line.get("logger") == "tollgate.calls" and line["path"] not in marks
    ]


def codex(gateway: LiveGateway, key: str, folder: Path, *, way: str, succeeds: bool) -> list[Any]:
    """The events of one turn: the first thing it tries is a WebSocket."""
    more = way.format(base_url=gateway.quickstart["base_url"])
    home = folder / "codex"
    home.mkdir()
    (home / "config.toml").write_text(SETTINGS.format(model=MODEL, more=more))
    command = ("exec", "--json", "--skip-git-repo-check", "--sandbox", "read-only", "Say hi")
    keys = {"CODEX_API_KEY": key, "GATEWAY_KEY": key, "CODEX_HOME": str(home)}
    done = run("node", CODEX, *command, folder=folder, succeeds=succeeds, **keys)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("way", [ITS_OWN, PROVIDER], ids=["openai_base_url", "a provider"])
def test_codex_has_a_turn(
    gateway: LiveGateway, http: httpx2.Client, tmp_path: Path, way: str
) -> None:
    payer = new_payer(gateway, http, "Codex")
    with log_of(gateway) as calls:
        events = codex(gateway, payer.api_key, tmp_path, way=way, succeeds=True)
    (end,) = [event for event in events if event["type"] == "turn.completed"]
    said = [e["item"]["text"] for e in events if e.get("item", {}).get("type") == "agent_message"]
    assert len(said) == 1
    records = [one for one in paid_calls(payer) if one["endpoint"] == "responses"]
    assert all(record["stream"] for record in records)
    assert end["usage"]["input_tokens"] == sum(one["prompt_tokens"] for one in records)
    assert end["usage"]["output_tokens"] == sum(one["completion_tokens"] for one in records)
    refused = [call for call in calls if call["status"] != 200]
    assert [call["status"] for call in refused] == ([426] if way == ITS_OWN else [])


@pytest.mark.parametrize(
    ("who", "words", "times"),
    [("pauper", "Quota exceeded. Check your plan and billing details.", 1),
     (STRANGER, "Incorrect API key provided.", 6)],
)  # fmt: skip
def test_codex_says_why_it_was_refused(
    gateway: LiveGateway, pauper: Customer, tmp_path: Path, who: str, words: str, times: int
) -> None:
    key = pauper.api_key if who == "pauper" else who
    with log_of(gateway) as calls:
        events = codex(gateway, key, tmp_path, way=ITS_OWN, succeeds=False)
    assert words in events[-1]["error"]["message"]
    assert sum(call["method"] == "POST" for call in calls) == times
    assert pauper.records() == []


def aider(gateway: LiveGateway, key: str, folder: Path) -> str:
    """What it prints for one message; it ends well whatever became of it."""
    options = (
        "--no-git",
        "--no-pretty",
        "--no-check-update",
        "--no-show-model-warnings",
        "--yes-always",
        "--analytics-disable",
        "--map-tokens=0",
    )
    done = run(
        *(AIDER, "--model", f"openai/{MODEL}", "--message", "Say hi", *options),
        folder=folder,
        OPENAI_API_BASE=gateway.quickstart["base_url"],
        OPENAI_API_KEY=key,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    return " ".join(done.stdout.split())  # It breaks lines where its terminal would end.


def test_aider_has_a_turn(gateway: LiveGateway, http: httpx2.Client, tmp_path: Path) -> None:
    payer = new_payer(gateway, http, "Aider")
    assert f"This is a simulated answer of {MODEL}." in aider(gateway, payer.api_key, tmp_path)
    assert len(paid_calls(payer)) == 1 + MARKS


def test_aider_says_why_it_was_refused(gateway: LiveGateway, tmp_path: Path) -> None:
    with log_of(gateway) as calls:
        said = aider(gateway, STRANGER, tmp_path)
    assert "Incorrect API key provided." in said
    assert [call["status"] for call in calls] == [401]
