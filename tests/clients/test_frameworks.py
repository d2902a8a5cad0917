"""What their users see of chats, streams, tools, embeddings and refusals, and what it costs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.clients.support import ENVIRONMENTS, HERE, MARKS, new_payer, paid_calls, said_by
from tests.end_to_end.live import LiveGateway
from tests.end_to_end.support import MODEL, Customer

SAID = f'You said: "Hello". This is a simulated answer of {MODEL}.'
NODE = HERE / "node"
PYTHON = ENVIRONMENTS / "clients" / "bin" / "python"
FRAMEWORKS = HERE / "python" / "frameworks.py"


@dataclass(frozen=True)
class Framework:
    command: tuple[str | Path, ...]
    calls: int
    """That are made and paid, refusals apart."""
    asks_again: int = 0
    """How often it repeats a call that was refused for want of money."""


PROGRAMS = {
    "LangChain": Framework((PYTHON, FRAMEWORKS, "langchain"), calls=6),
    "LlamaIndex": Framework((PYTHON, FRAMEWORKS, "llamaindex"), calls=5, asks_again=2),
    # It pings before it is used, and has each text embedded by itself.
    "Dify": Framework((PYTHON, FRAMEWORKS, "dify"), calls=6),
    "LiteLLM": Framework((PYTHON, FRAMEWORKS, "litellm"), calls=4),
    "LangChain.js": Framework(("node", NODE / "langchain.mjs"), calls=4),
    "AI SDK": Framework(("node", NODE / "ai_sdk.mjs"), calls=12, asks_again=2),
}


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


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_framework_works_as_it_does_with_its_vendor(
    gateway: LiveGateway, http: httpx2.Client, pauper: Customer, tmp_path: Path, name: str
) -> None:
    framework = PROGRAMS[name]
    payer = new_payer(gateway, http, name)
    seen = said_by(*framework.command, payer=payer, pauper=pauper, folder=tmp_path)
    for one in seen.values() if name == "AI SDK" else (seen,):
        judge(one, framework)
    assert len(paid_calls(payer)) == framework.calls + MARKS
    assert pauper.records() == []
