"""Memory: what an open stream costs, and whether it stays flat under load for minutes."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bench.candidates.base import Candidate
from bench.load import Shape, Target
from bench.payloads import stream_model
from bench.rounds import Lane, Stage, chat_lane, stream_lane
from bench.workshop import say

STREAMS = 1000
WARM_STREAMS = 50
# Slow enough that nobody is behind, so that what is measured is streams and no queues.
PAUSE = 100
SAMPLE_SECONDS = 2.0


def memory_per_stream(stage: Stage, *, streams: int = STREAMS) -> dict[str, float]:
    """Kilobytes of each candidate's relay per open stream, from processes that have just started.

    What was freed is rarely given back, so only a first time shows what is needed.
    """
    found = {}
    for candidate in stage.candidates:
        if candidate.name == "direct":
            continue
        warm = stream_lane(streams=WARM_STREAMS, seconds=1, pause=PAUSE)
        stage.measure(candidate, warm)
        idle = candidate.memory()
        watch = _Watch(candidate)
        shape = Shape(seconds=4, warm_seconds=2, connections=streams)
        lane = Lane(
            name=f"{streams} for memory",
            shape=shape,
            model=stream_model(100, PAUSE),
            counted="chunk",
        )
        target = Target(port=candidate.port, requests=stage.requests(candidate, lane))
        stage.loader.streams(target, shape, read=watch)
        found[candidate.name] = (watch.most - idle) / streams
        say(f"  memory per stream, {candidate.name}: {found[candidate.name]:.1f} KB")
    return found


@dataclass(slots=True)
class _Watch:
    """A reading that keeps the most memory that it has seen."""

    candidate: Candidate
    most: int = 0

    def __call__(self) -> Mapping[str, float]:
        self.most = max(self.most, self.candidate.memory())
        return {}


@dataclass(slots=True, kw_only=True)
class Flat:
    """A long run at a fixed rate."""

    rate: float
    seconds: float
    kilobytes: list[tuple[float, int]] = field(default_factory=list)  # By seconds since the start.
    latency_us: Mapping[str, float] = field(default_factory=dict)
    unanswered: int = 0

    @property
    def growth(self) -> float:
        """From the first third's most to the last third's, as a fraction of the former."""
        third = max(1, len(self.kilobytes) // 3)
        first = max(size for _, size in self.kilobytes[:third])
        last = max(size for _, size in self.kilobytes[-third:])
        return (last - first) / first


def flat_memory(stage: Stage, candidate: Candidate, *, rate: float, seconds: float) -> Flat:
    """The candidate's memory every few seconds, while it answers so many calls a second."""
    flat = Flat(rate=rate, seconds=seconds)
    lane = chat_lane(seconds=seconds)
    shape = replace(lane.shape, rate=rate, connections=100, warm_seconds=10)
    target = Target(port=candidate.port, requests=stage.requests(candidate, lane))
    with _Sampler(lambda: flat.kilobytes.append((_now(), candidate.memory()))):
        measured = stage.loader.calls([target], shape, read=dict)
    begin = flat.kilobytes[0][0]
    flat.kilobytes = [(round(at - begin, 1), size) for at, size in flat.kilobytes]
    flat.latency_us = measured.result["targets"][0]["latency_us"]
    flat.unanswered = measured.result["targets"][0]["unanswered"]
    return flat


class _Sampler:
    """Calls something every few seconds in a thread."""

    def __init__(self, sample: Callable[[], None]) -> None:
        self._sample = sample
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        self._sample()
        while not self._stop.wait(SAMPLE_SECONDS):
            self._sample()


def _now() -> float:
    return time.monotonic()
