"""Rounds in which the candidates take turns, so that all of them meet the same machine."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.candidates.base import RELAY, Bench, Candidate
from bench.candidates.tls_front import TlsFront
from bench.figures import Figure, ratio
from bench.load import Loader, Measured, Shape, Target, upstream_start
from bench.machine import Cores
from bench.payloads import CHAT, bundle, chat_body, render, stream_model
from bench.workshop import Unavailable, compile_programs, say, scratch_folder

MICRO = 1_000_000
IDLE_PATIENCE_SECONDS = 45.0
IDLE_LOOK_SECONDS = 0.2
IDLE_LOAD = 0.15  # Of a core: an idle gateway has its clocks and heartbeats.
Make = Callable[[Bench], Candidate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One kind of load: what is asked for, and how it is counted."""

    name: str
    shape: Shape
    model: str = CHAT
    size: int = 1024
    counted: str = "call"  # Or "chunk": then these are streams.
    only: frozenset[str] = frozenset()  # The candidates that it is for; empty: all.
    keys: str = ""  # Which keys that do not work; empty: one that does.

    @property
    def is_stream(self) -> bool:
        return self.counted == "chunk"


@dataclass(slots=True, kw_only=True)
class Series:
    """What one candidate showed in one lane, a value for each round."""

    relay_us: list[float] = field(default_factory=list)  # CPU of the relay, per call or chunk.
    other_us: dict[str, list[float]] = field(default_factory=dict)  # Of its other processes.
    per_second: list[float] = field(default_factory=list)
    latency_us: list[Mapping[str, float]] = field(default_factory=list)
    errors: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether not one call succeeded, so that there is nothing to tell."""
        return not self.relay_us

    def add(self, lane: Lane, measured: Measured) -> None:
        result = measured.result
        target = result if lane.is_stream else result["targets"][0]
        done = int(target["chunks"] if lane.is_stream else target["completed"])
        self.errors += int(target["errors"]) + int(target.get("unexpected", 0))
        if not target["lag_us" if lane.is_stream else "latency_us"]["count"]:
            return
        self.per_second.append(done / lane.shape.seconds)
        self.latency_us.append(target["lag_us" if lane.is_stream else "latency_us"])
        for part, seconds in measured.grown.items():
            each = seconds * MICRO / max(done, 1)
            if part == RELAY:
                self.relay_us.append(each)
            else:
                self.other_us.setdefault(part, []).append(each)

    def relay(self) -> Figure:
        return Figure.of(self.relay_us)

    def ratio_to(self, other: "Series") -> Figure:
        return ratio(self.relay_us, other.relay_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where lanes are run: what relays, and who calls it."""

    folder: Path
    candidates: Sequence[Candidate]
    loader: Loader
    skipped: Mapping[str, str]  # Candidates that this machine cannot run, and why.

    def run(self, lane: Lane, *, rounds: int) -> dict[str, Series]:
        """Each candidate once a round, in turns."""
        takes_part = [c for c in self.candidates if not lane.only or c.name in lane.only]
        found = {candidate.name: Series() for candidate in takes_part}
        for number in range(rounds):
            for candidate in takes_part:
                measured = self.measure(candidate, lane)
                found[candidate.name].add(lane, measured)
            say(f"  {lane.name}: round {number + 1} of {rounds}")
        return found

    def candidate(self, name: str) -> Candidate:
        return next(candidate for candidate in self.candidates if candidate.name == name)

    def measure(self, candidate: Candidate, lane: Lane) -> Measured:
        """The lane on an idle candidate. It may still be busy with what a lane before left it."""
        wait_idle(candidate)
        target = Target(port=candidate.port, requests=self.requests(candidate, lane))
        if lane.is_stream:
            return self.loader.streams(target, lane.shape, read=candidate.cpu)
        return self.loader.calls([target], lane.shape, read=candidate.cpu)

    def requests(self, candidate: Candidate, lane: Lane) -> Path:
        path = self.folder / f"{candidate.name}-{lane.name}.requests".replace(" ", "-")
        if not path.exists():
            body = chat_body(model=lane.model, size=lane.size, stream=lane.is_stream)
            customers = candidate.refused[lane.keys] if lane.keys else [candidate.headers]
            path.write_bytes(bundle([render(body, headers) for headers in customers]))
        return path


def wait_idle(candidate: Candidate) -> None:
    """Wait until its relay works on nothing any more, but not for ever."""
    give_up_at = time.monotonic() + IDLE_PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        before = candidate.cpu()[RELAY]
        time.sleep(IDLE_LOOK_SECONDS)
        if candidate.cpu()[RELAY] - before <= IDLE_LOAD * IDLE_LOOK_SECONDS:
            return
    say(f"  {candidate.name} is still busy with the lane before.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is the same for all candidates of a stage."""

    cores: Cores
    workers: int = 1
    tls: bool = False  # Towards the upstream.


@contextmanager
def stage(makes: Sequence[Make], setting: Setting) -> Iterator[Stage]:
    """Everything started, in order; all of it has ended afterwards."""
    cores = setting.cores
    with scratch_folder() as folder, ExitStack() as ending:
        say("- Compiling and starting")
        programs = compile_programs(folder / "native")
        upstream, port = upstream_start(programs, cores=cores.load, log=folder / "upstream.log")
        ending.callback(upstream.stop)
        authority = None
        if setting.tls:
            front = TlsFront.start(folder, upstream_port=port, cores=cores.load)
            ending.callback(front.process.stop)
            port, authority = front.port, front.authority
        candidates, skipped = [], {}
        for number, make in enumerate(makes):
            own = folder / f"candidate-{number}"
            own.mkdir()
            candidate = make(
                Bench(
                    folder=own,
                    cores=cores,
                    upstream_port=port,
                    authority=authority,
                    workers=setting.workers,
                )
            )
            ending.callback(candidate.stop)
            try:
                candidate.start()
            except Unavailable as reason:
                skipped[candidate.name] = str(reason)
                say(f"  {candidate.name}: skipped. {reason}")
                continue
            candidates.append(candidate)
        loader = Loader(programs, cores.load)
        running = Stage(folder=folder, candidates=candidates, loader=loader, skipped=skipped)
        for candidate in candidates:
            running.measure(candidate, chat_lane(seconds=candidate.warm_seconds, connections=10))
        yield running


def chat_lane(*, size: int = 1024, seconds: float, connections: int = 50) -> Lane:
    shape = Shape(seconds=seconds, warm_seconds=0.5, connections=connections)
    return Lane(name=f"chat of {size // 1024} KB", shape=shape, size=size)


def stream_lane(
    *, streams: int, seconds: float, pause: int = 20, only: frozenset[str] = frozenset()
) -> Lane:
    return Lane(
        only=only,
        name=f"{streams:,} streams of 50 deltas, {pause} ms apart",
        # They open over a second.
        shape=Shape(seconds=seconds, warm_seconds=1.5, connections=streams),
        model=stream_model(50, pause),
        counted="chunk",
    )


def refusal_lanes(*, seconds: float) -> list[Lane]:
    """Calls with keys that do not work, which anybody can send any number of."""
    shape = Shape(seconds=seconds, warm_seconds=0.5, status=401)
    return [
        Lane(name=f"401: {keys} key", shape=shape, only=frozenset({"tollgate"}), keys=keys)
        for keys in ("a revoked", "always another invented")
    ]
