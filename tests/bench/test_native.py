"""The load programs against the native upstream, and what they count."""

import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest

from bench.load import Loader, Shape, Target, upstream_start
from bench.machine import Cores
from bench.payloads import bundle, chat_body, render, stream_model
from bench.workshop import compile_programs

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
CORES = Cores.of_this_machine().load


@dataclass(frozen=True, kw_only=True)
class Native:
    loader: Loader
    port: int
    folder: Path

    def target(self, *bodies: bytes, port: int = 0, path: str = "/v1/chat/completions") -> Target:
        file = self.folder / f"{len(list(self.folder.iterdir()))}.requests"
        file.write_bytes(bundle([render(body, [], path=path) for body in bodies]))
        return Target(port=port or self.port, requests=file)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Native]:
    folder = tmp_path_factory.mktemp("native")
    programs = compile_programs(folder / "programs")
    process, port = upstream_start(programs, cores=CORES, log=folder / "upstream.log")
    yield Native(loader=Loader(programs, CORES), port=port, folder=folder)
    process.stop()


def shape(*, rate: float = 0, connections: int = 4, status: int = 200) -> Shape:
    return Shape(seconds=0.3, warm_seconds=0.1, connections=connections, rate=rate, status=status)


def test_a_closed_loop_counts_what_was_answered(native: Native) -> None:
    readings = iter([{"relay": 1.0}, {"relay": 1.5}])
    measured = native.loader.calls(
        [native.target(chat_body())], shape(), read=lambda: next(readings)
    )
    (target,) = measured.result["targets"]
    assert measured.grown == {"relay": 0.5}
    assert target["completed"] >= target["latency_us"]["count"] > 0
    assert (target["errors"], target["unexpected"], target["unanswered"]) == (0, 0, 0)


def test_another_status_is_not_what_was_asked_for(native: Native) -> None:
    strange = native.target(chat_body(), path="/v1/elsewhere")
    (target,) = native.loader.calls([strange], shape(), read=dict).result["targets"]
    assert target["unexpected"] >= target["completed"] > 0
    assert target["latency_us"]["count"] == 0


def test_an_expected_refusal_is_measured(native: Native) -> None:
    strange = native.target(chat_body(), path="/v1/elsewhere")
    measured = native.loader.calls([strange], shape(status=404), read=dict)
    assert measured.result["targets"][0]["latency_us"]["count"] > 0


def test_a_fixed_rate_is_kept_and_pairs_two_targets(native: Native) -> None:
    targets = [native.target(chat_body()), native.target(chat_body(size=50 * 1024))]
    result = native.loader.calls(targets, shape(rate=200), read=dict).result
    counts = [target["latency_us"]["count"] for target in result["targets"]]
    assert counts == pytest.approx([60, 60], abs=1)
    assert result["difference_us"]["count"] == pytest.approx(60, abs=1)


def test_a_latency_counts_from_when_the_call_was_due(native: Native) -> None:
    """Whoever takes 20 ms for a call that is due every 10 ms falls behind ever more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = Thread(target=_answer_slowly, args=(listener,))
        answering.start()
        slow = native.target(chat_body(), port=listener.getsockname()[1])
        result = native.loader.calls([slow], shape(rate=100, connections=1), read=dict).result
        answering.join()
    (target,) = result["targets"]
    assert target["latency_us"]["count"] == pytest.approx(30, abs=1)
    assert target["latency_us"]["p50"] > 100_000


def _answer_slowly(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with closing(connection):
        while connection.recv(65536):
            time.sleep(0.02)  # That is what it is for.
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


def test_streams_are_counted_with_their_lag(native: Native) -> None:
    body = chat_body(model=stream_model(5, 10), stream=True)
    measured = native.loader.streams(
        native.target(body),
        Shape(seconds=0.5, warm_seconds=1.1, connections=3),
        read=dict,
    )
    result = measured.result
    assert result["errors"] == 0
    assert result["streams"] > 0
    assert result["chunks"] == result["lag_us"]["count"] > result["streams"]


@pytest.mark.parametrize("options", [(), ("include_usage",)])
def test_the_upstream_streams_what_the_model_says(native: Native, options: Sequence[str]) -> None:
    asked = b', "stream_options": {"include_usage": true}}' if options else b"}"
    body = chat_body(model=stream_model(3, 1), stream=True)[:-1] + asked
    with socket.create_connection(("127.0.0.1", native.port)) as connection:
        connection.sendall(render(body, []))
        reply = b""
        while not reply.endswith(b"\r\n0\r\n\r\n"):
            reply += connection.recv(65536)
    assert reply.count(b'"content":"@') == 3
    assert reply.count(b'"usage":{"prompt_tokens":170,"completion_tokens":3') == len(options)
    assert reply.count(b"data: [DONE]") == 1
