"""Frameworks for Python: what their users see, and what it costs them."""

from pathlib import Path

import httpx2
import pytest

from tests.clients.support import ENVIRONMENTS, HERE, Framework, new_payer, use
from tests.end_to_end.live import LiveGateway
from tests.end_to_end.support import Customer

PYTHON = ENVIRONMENTS / "clients" / "bin" / "python"
PROGRAM = HERE / "python" / "frameworks.py"
FRAMEWORKS = {
    "langchain": Framework(calls=6),
    "llamaindex": Framework(calls=5, asks_again=2),
    # It pings before it is used, and has each text embedded by itself.
    "dify": Framework(calls=6),
    "litellm": Framework(calls=4),
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_works_as_it_does_with_its_vendor(
    gateway: LiveGateway, http: httpx2.Client, pauper: Customer, tmp_path: Path, name: str
) -> None:
    payer = new_payer(gateway, http, name)
    use(FRAMEWORKS[name], PYTHON, PROGRAM, name, payer=payer, pauper=pauper, folder=tmp_path)
