"""Programs that call a gateway, what they print, and whether each of their calls was paid."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.end_to_end.live import WORKERS, LiveGateway
from tests.end_to_end.support import (
    MODEL,
    Customer,
    charge_of,
    everything_is_recorded,
    organization_create,
)

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".venv"
SECONDS = 180
QUOTA_USD = 10
SAID = f'You said: "Hello". This is a simulated answer of {MODEL}.'
NANO_USD = 10**9
# Calls of `everything_is_recorded` itself: one of each worker.
MARKS = WORKERS


def run(
    *command: str | Path, folder: Path, succeeds: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Nothing of the session's own settings reaches the program."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
    return done


def said_by(*command: str | Path, payer: Customer, pauper: Customer, folder: Path) -> Any:
    """The one JSON object that a program prints when it has used the gateway."""
    done = run(
        *command,
        folder=folder,
        BASE_URL=payer.gateway.quickstart["base_url"],
        API_KEY=payer.api_key,
        POOR_KEY=pauper.api_key,
        MODEL=MODEL,
        # What it would fetch from elsewhere: this is about its calls to the gateway.
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    return json.loads(done.stdout.splitlines()[-1])


def new_payer(gateway: LiveGateway, http: httpx2.Client, name: str) -> Customer:
    return organization_create(gateway, http, name, "--quota", str(QUOTA_USD))


def paid_calls(payer: Customer) -> list[dict[str, Any]]:
    """All records of a payer that has ended, when they add up to what it has paid."""
    everything_is_recorded(payer)
    records = payer.records(limit=100)
    assert {record["outcome"] for record in records} == {"completed"}
    assert {record["usage_source"] for record in records} == {"upstream"}
    for record in records:
        if record["model"] == MODEL:
            tokens = record["prompt_tokens"], record["completion_tokens"]
            assert record["charge_nano_usd"] == charge_of(*tokens)
    paid = sum(record["charge_nano_usd"] for record in records)
    assert payer.balance() == QUOTA_USD * NANO_USD - paid
    return records


@dataclass(frozen=True)
class Framework:
    """One that is driven by a program of ours, which prints what it saw."""

    calls: int
    """That are made and paid, refusals apart."""
    asks_again: int = 0
    """How often it repeats a call that was refused for want of money."""


def judge(seen: dict[str, Any], framework: Framework) -> None:
    assert seen["chat"]["text"] == seen["stream"]["text"] == SAID
    answers = [one for one in seen.values() if isinstance(one, dict) and "usage" in one]
    assert {tuple(one["usage"]) for one in answers} == {(8, 17)}
    assert seen["tools"] == [{"name": "weather", "args": {"city": "example"}}]
    assert seen["embeddings"] == [1536, 1536]
    for case, words, again in (
        ("stranger", "Incorrect API key provided", 0),
        ("unknown", "`no-such-model` does not exist", 0),
        ("poor", "You have used up your quota", framework.asks_again),
    ):
        assert words in seen[case]["message"], seen[case]
        assert seen[case]["sent"] == 1 + again, case


def use(
    framework: Framework, *command: str | Path, payer: Customer, pauper: Customer, folder: Path
) -> None:
    """Let a program drive the framework, and judge what it saw and what it paid."""
    seen = said_by(*command, payer=payer, pauper=pauper, folder=folder)
    for one in (seen,) if "chat" in seen and "text" in seen["chat"] else seen.values():
        judge(one, framework)
    assert len(paid_calls(payer)) == framework.calls + MARKS
    assert pauper.records() == []
