"""What the operator of a first run has in hand: a banner, a console, health, commands and a log."""

import json
import re
import shlex
import stat

import httpx2
import pytest

from tests.end_to_end.live import WORKERS, LiveGateway
from tests.end_to_end.support import Customer, new_tag


def test_the_quickstart_file_is_private_and_whole(gateway: LiveGateway) -> None:
    file = gateway.data_directory / "quickstart.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_bytes()) == gateway.quickstart
    assert gateway.quickstart.keys() == {
        "base_url",
        "api_key",
        "admin_url",
        "admin_email",
        "admin_password",
        "organization",
        "project",
    }
    assert gateway.quickstart["base_url"] == f"{gateway.origin}/v1"


def test_the_banner_shows_a_command_that_works(gateway: LiveGateway) -> None:
    banner = gateway.log_file.read_text("utf-8")
    for secret in ("api_key", "admin_password"):
        assert gateway.quickstart[secret] in banner
    assert gateway.quickstart["admin_url"] in banner
    assert "SIMULATED" in banner
    found = re.search(r"^curl .*?(?=\n\n)", banner, re.DOTALL | re.MULTILINE)
    assert found is not None
    _, url, *options = shlex.split(found[0].replace("\\\n", " "))
    values = list(zip(options[::2], options[1::2], strict=True))
    headers = dict(value.split(": ", 1) for option, value in values if option == "-H")
    (body,) = (value for option, value in values if option == "-d")
    reply = httpx2.post(url, content=body, headers=headers)
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["message"]["content"]


def test_the_administrator_can_log_in(gateway: LiveGateway) -> None:
    with httpx2.Client(follow_redirects=True) as browser:
        page = browser.get(gateway.quickstart["admin_url"])
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token is not None
        form = {
            "csrfmiddlewaretoken": token[1],
            "username": gateway.quickstart["admin_email"],
            "password": gateway.quickstart["admin_password"],
            "next": "/admin/",
        }
        inside = browser.post(page.url, data=form, headers={"referer": str(page.url)})
        assert (inside.status_code, inside.url.path) == (200, "/admin/")
        assert browser.cookies


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_told_without_a_key(gateway: LiveGateway, path: str) -> None:
    with gateway.worker_clients() as clients:
        for client in clients:
            assert client.get(path).status_code == 200


def test_status_knows_the_processes(gateway: LiveGateway) -> None:
    status = gateway.manage("status")
    assert len(set(status["workers"])) == WORKERS
    assert {worker["pid"] for worker in status["engine_workers"]} == set(status["workers"])
    assert status["base_url"] == gateway.quickstart["base_url"]
    assert isinstance(status["postgres"], int)


def test_each_call_is_one_line_of_the_log_without_its_content(
    gateway: LiveGateway, customer: Customer
) -> None:
    secret = f"secret-{new_tag()}"
    replies = [
        customer.chat(secret),
        customer.chat(secret, stream=True),
        customer.chat(secret, simulate={"status": 500}),
        customer.chat(secret, n=0),
        customer.get("/v1/models"),
        customer.http.post("/v1/chat/completions", json={"model": secret}),
    ]
    log = gateway.log_when_it_has(*(reply.headers["x-request-id"] for reply in replies))
    assert secret not in log
    assert customer.api_key not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    by_id = {line["request_id"]: line for line in lines if "request_id" in line}
    for reply in replies:
        line = by_id[reply.headers["x-request-id"]]
        assert line["status"] == reply.status_code
        assert line["duration_ms"] >= 0
        known = reply.status_code != 401
        assert line.get("organization") == (customer.organization if known else None)
    assert by_id[replies[0].headers["x-request-id"]]["charge_nano_usd"] > 0
