"""What a gateway adds to a call's latency, at a fixed rate beside calls straight upstream."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import httpx2
from typing_extensions import override

from bench.candidates.base import Candidate
from bench.candidates.tollgate import Tollgate
from bench.load import Target
from bench.rounds import Stage, chat_lane
from bench.workshop import say

CONNECTIONS = 50
_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
_PAGE = "/admin/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """Latencies at one rate, in microseconds: percentiles, and those of neighbours' differences."""

    candidate: str
    beside: str  # What else the gateway did meanwhile.
    rate: float
    direct: Mapping[str, float]
    through: Mapping[str, float]
    difference: Mapping[str, float]
    failed: int
    pages: int = 0  # That the console answered meanwhile.

    @classmethod
    def of(cls, result: Mapping[str, Any], **more: Any) -> Self:
        direct, through = result["targets"]
        failed = sum(
            target[kind]
            for target in (direct, through)
            for kind in ("errors", "unexpected", "unanswered")
        )
        return cls(
            direct=direct["latency_us"],
            through=through["latency_us"],
            difference=result["difference_us"],
            failed=failed,
            **more,
        )

    def added(self, percentile: str) -> float:
        return self.through[percentile] - self.direct[percentile]


def added_latency(stage: Stage, candidate: Candidate, *, rate: float, seconds: float) -> Added:
    """Half of the calls go straight upstream; each of the two gets the rate."""
    result = _paired(stage, candidate, rate=rate, seconds=seconds)
    return _told(Added.of(result, candidate=candidate.name, beside="", rate=rate))


def added_latency_beside_console(
    stage: Stage, tollgate: Tollgate, *, rate: float, seconds: float
) -> Added:
    """The same, while somebody loads the console's heaviest page over and over."""
    with _console_loaded(tollgate) as reader:
        result = _paired(stage, tollgate, rate=rate, seconds=seconds)
    return _told(
        Added.of(
            result,
            candidate=tollgate.name,
            beside="the console's dashboard, loaded over and over",
            rate=rate,
            pages=reader.pages,
        )
    )


def _paired(
    stage: Stage, candidate: Candidate, *, rate: float, seconds: float
) -> Mapping[str, Any]:
    lane = chat_lane(seconds=seconds)
    shape = replace(lane.shape, rate=rate, connections=CONNECTIONS, warm_seconds=2)
    targets = [
        Target(port=each.port, requests=stage.requests(each, lane))
        for each in (stage.candidate("direct"), candidate)
    ]
    return stage.loader.calls(targets, shape, read=dict).result


def _told(added: Added) -> Added:
    figures = ", ".join(f"{p} +{added.added(p) / 1000:.2f} ms" for p in ("p50", "p99", "p999"))
    beside = f" beside {added.beside}" if added.beside else ""
    say(f"  latency of {added.candidate} at {added.rate:,.0f}/s{beside}: {figures}")
    return added


class _Reader(threading.Thread):
    """Somebody in the console who reloads as soon as the page is there."""

    def __init__(self, client: httpx2.Client) -> None:
        super().__init__()
        self.pages = 0
        self._client = client
        self._stopping = threading.Event()

    @override
    def run(self) -> None:
        while not self._stopping.is_set():
            self._client.get(_PAGE).raise_for_status()
            self.pages += 1

    def stop(self) -> None:
        self._stopping.set()
        self.join()


@contextmanager
def _console_loaded(tollgate: Tollgate) -> Iterator[_Reader]:
    with httpx2.Client(base_url=tollgate.origin, timeout=60, follow_redirects=True) as client:
        _log_in(client, tollgate.quickstart())
        reader = _Reader(client)
        reader.start()
        try:
            yield reader
        finally:
            reader.stop()
    if not reader.pages:
        raise RuntimeError("The console did not answer.")


def _log_in(client: httpx2.Client, quickstart: Mapping[str, str]) -> None:
    form = client.get(f"{_PAGE}login/")
    token = _TOKEN.search(form.text)
    if token is None:
        raise RuntimeError("The console's login page has no form.")
    fields = {
        "csrfmiddlewaretoken": token[1],
        "username": quickstart["admin_email"],
        "password": quickstart["admin_password"],
        "next": _PAGE,
    }
    page = client.post(f"{_PAGE}login/", data=fields, headers={"referer": str(form.url)})
    if page.url.path != _PAGE:
        raise RuntimeError(f"The console did not let us in: {page.status_code} at {page.url}.")
