"""Apps in a browser: a page of another origin asks as they do, and Chromium decides if it may."""

import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright
from typing_extensions import override

from tests.end_to_end.support import MODEL, Customer

PAGES = Path(__file__).parent / "browser"
SAID = f'You said: "Hello". This is a simulated answer of {MODEL}.'
APPS = ("nextChat", "chatHub", "translator", "lobeChat")


class Server(SimpleHTTPRequestHandler):
    """The page, and the SDK for it."""

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def address(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another origin than the gateway's: another port is enough."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(PAGES, folder, dirs_exist_ok=True)
    (folder / "openai").symlink_to(package / "node_modules" / "openai")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.goto(address)
        page.wait_for_function("window.apps")
        yield page
        browser.close()


def ask(page: Page, app: str, customer: Customer, **changes: str) -> dict[str, Any]:
    """What the app makes of its calls."""
    user = {"origin": customer.gateway.origin, "key": customer.api_key, "model": MODEL, **changes}
    answer: dict[str, Any] = page.evaluate("([app, user]) => apps[app](user)", [app, user])
    return answer


@pytest.mark.parametrize("app", APPS)
def test_an_app_gets_its_answer(page: Page, customer: Customer, app: str) -> None:
    seen = ask(page, app, customer)
    assert (seen["text"], seen["done"]) == (SAID, True)
    assert MODEL in seen.get("models", [MODEL])
    assert seen.get("usage", {"total_tokens": 25})["total_tokens"] == 25


@pytest.mark.parametrize("app", APPS)
def test_an_app_can_read_why_it_was_refused(page: Page, pauper: Customer, app: str) -> None:
    for changes, code in (
        ({}, "insufficient_quota"),
        ({"key": "sk-x"}, "invalid_api_key"),
        ({"model": "no-such-model"}, "model_not_found"),
    ):
        seen = ask(page, app, pauper, **changes)
        error = seen["shown"]["error"]
        assert error["code"] == code
        assert isinstance(error["message"], str)
        assert seen.get("requestID", "req_").startswith("req_")
    assert pauper.records() == []


def test_an_app_shows_the_balance(page: Page, customer: Customer, pauper: Customer) -> None:
    seen = ask(page, "nextChatBalance", customer)
    left = round((seen["dollars"] - seen["cents"] / 100) * 10**9)
    assert left == pytest.approx(customer.balance(), abs=10)
    assert ask(page, "nextChatBalance", pauper) == {"cents": 0, "dollars": 0}
    assert ask(page, "nextChatBalance", pauper, key="sk-x") == {"statuses": [401, 401]}
