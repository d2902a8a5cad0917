"""`manage.py run` for real: its processes, what kills them, and what is left when it stops."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from uuid import uuid4

import pytest

from gateway.data_directory import DataDirectory
from gateway.ports import bind_listener, parent_of
from gateway.postgres import running_server
from tests.databases import copy, drop, url_of
from tests.gateway.databases import clean_up
from tests.gateway.running import (
    Running,
    alive,
    children_of,
    manage,
    printed_curl,
    running,
    start,
    until,
)
from tests.gateway.test_launch import PRODUCTION
from tests.ports import free_port

SECRETS = {name: PRODUCTION[name] for name in ("SECRET_KEY", "KEY_PEPPER", "CREDENTIAL_KEYS")}
CONTRACT = {
    "base_url",
    "api_key",
    "admin_url",
    "admin_email",
    "admin_password",
    "organization",
    "project",
}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A data directory after its first run, and what that run printed."""
    data = tmp_path_factory.mktemp("first") / "var"
    with running(data) as gateway:
        banner = gateway.banner
    yield data, banner
    clean_up(DataDirectory(data))


@pytest.fixture
def data(first_run: tuple[Path, str], place: Path) -> Iterator[Path]:
    """A copy of it for one test."""
    subprocess.run(["cp", "-a", first_run[0], place / "var"], check=True)
    yield place / "var"
    clean_up(DataDirectory(place / "var"))


def test_first_run_prints_and_keeps_the_contract(first_run: tuple[Path, str]) -> None:
    data, banner = first_run
    file = data / "quickstart.json"
    content = json.loads(file.read_bytes())
    assert set(content) == CONTRACT
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for name in ("base_url", "api_key", "admin_url", "admin_email", "admin_password"):
        assert content[name] in banner
    assert content["organization"], content["project"] == ("demo", "default")
    assert "SIMULATED UPSTREAM" in banner


def test_it_leaves_nothing_behind(data: Path) -> None:
    with running(data, WORKERS="2") as gateway:
        family = {gateway.pid, *children_of(gateway.pid)}
        # PostgreSQL, the simulated upstream, two workers and the jobs.
        assert len(family) == 6
        assert gateway.stop() == 0
        assert "Stopped" in gateway.rest_of_output()
    assert not [pid for pid in family if alive(pid)]
    assert running_server(DataDirectory(data)) is None
    assert not (data / "supervisor.json").exists()
    bind_listener("127.0.0.1", gateway.port).close()


def test_next_run_goes_on_with_data_and_key(data: Path) -> None:
    with running(data) as gateway:
        before = gateway.quickstart
        gateway.answer()
    with running(data) as gateway:
        after = gateway.quickstart
        assert after["api_key"] == before["api_key"]
        assert after["admin_password"] == before["admin_password"]
        assert after["admin_password"] not in gateway.banner
        assert str(data / "quickstart.json") in gateway.banner
        # Another port than before: what depends on it follows.
        assert after["base_url"] == f"http://127.0.0.1:{gateway.port}/v1"
        assert gateway.usage()["total"]["requests"] == 1


def test_printed_curl_works_when_pasted(data: Path) -> None:
    curl = shutil.which("curl")
    assert curl is not None, "this test pastes the printed command and needs curl"
    with running(data) as gateway:
        done = subprocess.run(
            ["bash", "-c", printed_curl(gateway.banner)],
            capture_output=True,
            timeout=30,
            check=True,
        )
        assert json.loads(done.stdout)["choices"][0]["message"]["content"]


def test_status_tells_the_processes(data: Path) -> None:
    with running(data, WORKERS="2") as gateway:
        status = gateway.status()
        assert status["supervisor"] == gateway.pid
        assert status["base_url"] == gateway.quickstart["base_url"]
        assert len(set(status["workers"])) == 2
        assert {parent_of(pid) for pid in status["workers"]} == {gateway.pid}
        assert status["postgres"] == running_server(DataDirectory(data))
    done = manage(data, "status", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "supervisor": None,
        "workers": [],
        "postgres": None,
        "base_url": None,
        "engine": None,
        "engine_problem": "The database does not run.",
        "engine_workers": [],
        "upstream_drifts": None,
        "journals": [],
    }


def test_a_killed_worker_is_replaced(data: Path) -> None:
    with running(data, WORKERS="2") as gateway:
        victim, survivor = gateway.status()["workers"]
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in (workers := gateway.status()["workers"]) and len(workers) == 2)
        assert survivor in gateway.status()["workers"]
        assert "worker 1 has ended with -9" in gateway.log
        for _ in range(4):
            gateway.answer()


def test_killed_helpers_are_replaced(data: Path) -> None:
    with running(data) as gateway:
        server = running_server(DataDirectory(data))
        assert server is not None
        worker = gateway.status()["workers"][0]
        others = set(children_of(gateway.pid)) - {server, worker}
        assert len(others) == 2
        for pid in others:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(set(children_of(gateway.pid)) - {server, worker} - others) == 2)
        gateway.answer()


def test_a_dead_database_is_started_again(data: Path) -> None:
    with running(data) as gateway:
        server = running_server(DataDirectory(data))
        assert server is not None
        os.kill(server, signal.SIGKILL)
        until(lambda: running_server(DataDirectory(data)) not in (None, server))
        # Until the workers have connected again they refuse what they hold no money for.
        until(lambda: _status(gateway.chat()) == 200)


def test_workers_do_not_outlive_a_killed_supervisor(data: Path) -> None:
    with running(data, WORKERS="2") as gateway:
        children = set(children_of(gateway.pid)) - {running_server(DataDirectory(data))}
        gateway.process.kill()
        gateway.process.wait()
        until(lambda: not any(alive(pid) for pid in children))
    # The same port at once: whoever still holds it is on the way out.
    with running(data, PORT=str(gateway.port)) as successor:
        successor.answer()


def test_everything_killed_at_once_comes_back(data: Path) -> None:
    with running(data, WORKERS="2") as gateway:
        gateway.answer()
        server = running_server(DataDirectory(data))
        for pid in [gateway.pid, *children_of(gateway.pid)]:
            os.kill(pid, signal.SIGKILL)
        gateway.process.wait()
        until(lambda: server is None or not alive(server))
    with running(data) as gateway:
        gateway.answer()
        until(lambda: gateway.usage()["total"]["requests"] == 2)


def test_two_nodes_start_together_on_one_empty_database(place: Path) -> None:
    name = f"nodes_{uuid4().hex[:12]}"
    copy("template1", name)
    shared = {**SECRETS, "DATABASE_URL": url_of(name)}
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        stack.callback(drop, name)
        nodes = [running(place / node, **shared) for node in ("a", "b")]
        first, second = pool.map(stack.enter_context, nodes)
        a, b = first.quickstart, second.quickstart
        assert a["organization"] == b["organization"]
        assert a["api_key"] != b["api_key"]
        assert {a["admin_email"], b["admin_email"]} == {
            "admin@tollgate.local",
            "admin-2@tollgate.local",
        }
        for node in (first, second):
            # Somebody's own database gets no invented answers.
            assert "NO UPSTREAM" in node.banner
            assert _status(node.chat()) == 404
            assert node.status()["postgres"] is None


def test_a_long_and_strange_path_works(place: Path) -> None:
    folder = place / "a, b % ü"
    data = folder / ("x" * (199 - len(str(folder))))
    folder.mkdir()
    try:
        with running(data) as gateway:
            gateway.answer()
            assert running_server(DataDirectory(data)) == gateway.status()["postgres"]
    finally:
        clean_up(DataDirectory(data))


def test_a_second_run_is_refused_with_the_first_ones_pid(data: Path) -> None:
    with running(data) as gateway:
        second = manage(data, "run", PORT=str(free_port()))
        assert second.returncode == 1
        assert f"process {gateway.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        assert gateway.status()["supervisor"] == gateway.pid


def test_a_taken_port_is_refused_with_its_holders_pid(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = manage(data, "run", PORT=str(port))
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken by process {os.getpid()}" in done.stderr
    assert "Traceback" not in done.stderr
    # It was refused before anything was started.
    assert running_server(DataDirectory(data)) is None


def test_the_port_of_another_gateway_is_refused_with_its_supervisor(
    data: Path, place: Path
) -> None:
    with running(data, WORKERS="2") as gateway:
        done = manage(place / "other", "run", PORT=str(gateway.port))
    assert done.returncode == 1
    assert f"is taken by process {gateway.pid}:" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_lets_running_calls_end(data: Path, number: signal.Signals) -> None:
    with running(data) as gateway:
        call = gateway.chat(stream=True, simulate={"chunks": 20, "chunk_delay_ms": 100})
        assert call.readline().startswith(b"data: {")
        gateway.process.send_signal(number)
        until(lambda: _refuses_connections(gateway))
        events = call.read().split(b"\n\n")
        assert events[-2] == b"data: [DONE]"
        assert b'"finish_reason":"stop"' in events[-3]
        assert gateway.process.wait(60) == 0


def test_the_drain_ends_with_an_error_event(data: Path) -> None:
    with running(data, DRAIN_SECONDS="0.5") as gateway:
        call = gateway.chat(stream=True, simulate={"chunks": 500, "chunk_delay_ms": 100})
        assert call.readline().startswith(b"data: {")
        gateway.process.send_signal(signal.SIGTERM)
        events = call.read().split(b"\n\n")
        assert b'"error"' in events[-3]
        assert events[-2] == b"data: [DONE]"
        assert gateway.process.wait(60) == 0


def test_a_second_interrupt_hurries(data: Path) -> None:
    with running(data, DRAIN_SECONDS="3600") as gateway:
        call = gateway.chat(stream=True, simulate={"chunks": 5000, "chunk_delay_ms": 100})
        assert call.readline().startswith(b"data: {")
        gateway.process.send_signal(signal.SIGINT)
        until(lambda: _refuses_connections(gateway))
        gateway.process.send_signal(signal.SIGINT)
        assert call.read().endswith(b"data: [DONE]\n\n")
        assert gateway.process.wait(60) == 0


def test_a_stop_during_the_start_leaves_nothing(place: Path) -> None:
    process = start(place / "var", PORT=str(free_port()))
    assert process.stdout is not None
    step = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert step == "- Creating the database\n"
    assert "ready" not in rest
    assert running_server(DataDirectory(place / "var")) is None


def _status(response: HTTPResponse) -> int:
    response.read()
    return response.status


def _refuses_connections(gateway: Running) -> bool:
    try:
        socket.create_connection(("127.0.0.1", gateway.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False
