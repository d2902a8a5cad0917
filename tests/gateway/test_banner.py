import json
import shlex
from pathlib import Path

import pytest

from gateway.banner import Banner
from gateway.preparation import Prepared
from gateway.quickstart import Quickstart
from gateway.upstreams import Upstream

QUICKSTART = Quickstart(
    base_url="http://127.0.0.1:8000/v1",
    api_key="sk-key",
    admin_url="http://127.0.0.1:8000/admin/",
    admin_email="admin@tollgate.local",
    admin_password="the-password",
    organization="demo",
    project="default",
)
FILE = Path("/data/quickstart.json")


def text(
    upstream: Upstream = Upstream.ENVIRONMENT,
    *,
    first_run: bool = False,
    quickstart: Quickstart | None = QUICKSTART,
    show_secrets: bool = True,
) -> str:
    prepared = Prepared(
        upstream=upstream, first_run=first_run, has_quickstart=quickstart is not None
    )
    return Banner(
        prepared=prepared,
        quickstart=quickstart,
        base_url=QUICKSTART.base_url,
        quickstart_file=FILE,
        show_secrets=show_secrets,
    ).text()


def test_the_password_is_shown_once() -> None:
    assert "the-password" in text(first_run=True)
    later = text(first_run=False)
    assert "the-password" not in later
    assert f"Password   in {FILE}" in later


@pytest.mark.parametrize("first_run", [True, False])
def test_a_production_log_gets_no_secret(*, first_run: bool) -> None:
    said = text(first_run=first_run, show_secrets=False)
    assert "the-password" not in said
    assert "sk-key" not in said
    assert str(FILE) in said


def test_a_database_in_use_has_nothing_to_show() -> None:
    said = text(quickstart=None)
    assert QUICKSTART.base_url in said
    assert "E-mail" not in said


def test_what_is_not_real_is_said_loudly() -> None:
    assert "SIMULATED UPSTREAM" in text(Upstream.SIMULATED)
    assert "NO UPSTREAM" in text(Upstream.NONE)
    for upstream in (Upstream.ENVIRONMENT, Upstream.CHANNELS):
        assert "UPSTREAM" not in text(upstream)


def test_the_command_is_one_that_a_shell_understands() -> None:
    said = text()
    words = shlex.split(said[said.index("curl ") : said.index("Ctrl-C")])
    assert words[:2] == ["curl", "http://127.0.0.1:8000/v1/chat/completions"]
    assert "Authorization: Bearer sk-key" in words
    assert set(json.loads(words[-1])) == {"model", "messages"}
