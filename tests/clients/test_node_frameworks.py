"""Frameworks for Node.js: what their users see, and what it costs them."""

import json
from pathlib import Path

import httpx2
import pytest

from tests.clients.support import HERE, Framework, new_payer, use
from tests.end_to_end.live import LiveGateway
from tests.end_to_end.node_package import installed
from tests.end_to_end.support import Customer

NODE = HERE / "node"
FRAMEWORKS = {
    "langchain": Framework(calls=4),
    # In its three ways: compatible, chats, responses.
    "ai_sdk": Framework(calls=12, asks_again=2),
}


@pytest.fixture(scope="module")
def frameworks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs and their packages."""
    return installed(tmp_path_factory.mktemp("frameworks"), source=NODE)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_works_as_it_does_with_its_vendor(
    frameworks: Path,
    gateway: LiveGateway,
    http: httpx2.Client,
    pauper: Customer,
    tmp_path: Path,
    name: str,
) -> None:
    payer = new_payer(gateway, http, f"Node {name}")
    program = frameworks / f"{name}.mjs"
    use(FRAMEWORKS[name], "node", program, payer=payer, pauper=pauper, folder=tmp_path)


@pytest.mark.parametrize("package", ["node", "codex"])
def test_the_locks_name_no_registry(package: str) -> None:
    lock = json.loads((HERE / package / "package-lock.json").read_bytes())
    assert all("resolved" not in one for one in lock["packages"].values())
