"""The whole bench: every candidate and lane in one run, and what people read of it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.candidates.base import Direct
from bench.candidates.billing_off import BillingOff
from bench.candidates.nginx import Nginx
from bench.candidates.peers import LiteLLM, Portkey
from bench.candidates.tollgate import Tollgate
from bench.lanes.latency import Added, added_latency, added_latency_beside_console
from bench.lanes.memory import flat_memory, memory_per_stream
from bench.lanes.scaling import scaling
from bench.machine import Cores, description
from bench.plans import Full
from bench.render import render
from bench.results import document_of, lane_document, today, write
from bench.rounds import Lane, Make, Setting, Stage, chat_lane, refusal_lanes, stage, stream_lane
from bench.workshop import say

_FAST = frozenset({"direct", "nginx", "billing off", "tollgate"})
# Above it, the machine's other half is the limit: both the load and the upstream run there.
MOST_RATE = 10_000


def full(plan: Full) -> Path:
    """Where the results are. What was measured is written after each part, so a run that is cut
    short leaves that much.
    """
    folder = plan.folder / today()
    document: dict[str, Any] = {"date": today(), "machine": description()}
    for part in (_in_turns, _over_tls, _memory, _scaling):
        say(f"- {(part.__doc__ or '').partition('.')[0]}")
        part(plan, document)
        write(document, folder)
    render(folder)
    return folder


def _makes(plan: Full) -> list[Make]:
    ours: list[Make] = [Direct, Nginx, BillingOff, partial(Tollgate, of=plan.of)]
    return [*ours, LiteLLM, Portkey] if plan.peers else ours


def _lanes(plan: Full) -> Iterator[Lane]:
    yield chat_lane(seconds=plan.seconds)
    yield chat_lane(size=50 * 1024, seconds=plan.seconds)
    yield stream_lane(streams=100, seconds=plan.seconds)
    for streams in (1000, 2000):
        yield stream_lane(streams=streams, seconds=plan.seconds, only=_FAST)
    # At a pace that one core can keep, so that how far chunks are behind means something.
    yield stream_lane(streams=2000, seconds=plan.seconds, pause=100, only=_FAST)
    yield from refusal_lanes(seconds=plan.seconds)


def _in_turns(plan: Full, document: dict[str, Any]) -> None:
    """Calls, streams and refusals, in turns. Then latency and a long run, with the same ones."""
    with stage(_makes(plan), Setting(cores=Cores.of_this_machine())) as running:
        document["versions"] = {each.name: each.version for each in running.candidates}
        document["commit"] = running.candidate("tollgate").version
        document["skipped"] = dict(running.skipped)
        document["lanes"] = lanes = []
        for lane in _lanes(plan):
            found = running.run(lane, rounds=plan.rounds)
            lanes.append(lane_document(lane, found, rounds=plan.rounds))
        document["breakdown"] = _breakdown(lanes)
        document["latency"] = [document_of(each) for each in _latencies(plan, running, lanes[0])]
        if plan.minutes:
            rate = _half(lanes[0], "tollgate")
            tollgate = running.candidate("tollgate")
            flat = flat_memory(running, tollgate, rate=rate, seconds=plan.minutes * 60)
            document["flat"] = document_of(flat) | {"growth": round(flat.growth, 4)}


def _over_tls(plan: Full, document: dict[str, Any]) -> None:
    """The same over TLS to the upstream."""
    makes: list[Make] = [Nginx, BillingOff, partial(Tollgate, of=plan.of)]
    with stage(makes, Setting(cores=Cores.of_this_machine(), tls=True)) as running:
        for lane in (
            chat_lane(seconds=plan.seconds),
            stream_lane(streams=100, seconds=plan.seconds),
        ):
            over = replace(lane, name=f"{lane.name}, TLS to the upstream")
            found = running.run(over, rounds=plan.rounds)
            document["lanes"].append(lane_document(over, found, rounds=plan.rounds))


def _memory(plan: Full, document: dict[str, Any]) -> None:
    """Memory per open stream, of processes that have just started."""
    makes: list[Make] = [Nginx, BillingOff, partial(Tollgate, of=plan.of)]
    with stage(makes, Setting(cores=Cores.of_this_machine())) as running:
        found = memory_per_stream(running)
    document["memory_kilobytes"] = {name: round(size, 1) for name, size in found.items()}


def _scaling(plan: Full, document: dict[str, Any]) -> None:
    """Workers and organizations."""
    found = scaling(seconds=2 * plan.seconds, of=plan.of)
    document["scaling"] = [document_of(each) for each in found]


def _latencies(plan: Full, running: Stage, lane: Mapping[str, Any]) -> Iterator[Added]:
    seconds = 5 * plan.seconds
    for candidate in running.candidates:
        if candidate.name != "direct" and not lane["candidates"][candidate.name].get("failed"):
            rate = _half(lane, candidate.name)
            yield added_latency(running, candidate, rate=rate, seconds=seconds)
    tollgate = running.candidate("tollgate")
    assert isinstance(tollgate, Tollgate)
    rate = _half(lane, "tollgate")
    yield added_latency_beside_console(running, tollgate, rate=rate, seconds=seconds)


def _half(lane: Mapping[str, Any], name: str) -> float:
    """Half of what the candidate did in a closed loop."""
    per_second: float = lane["candidates"][name]["per_second"]["median"]
    return min(per_second / 2, MOST_RATE)


def _breakdown(lanes: list[dict[str, Any]]) -> dict[str, Any]:
    found = {}
    for lane in lanes:
        off, on = (lane["candidates"].get(name) for name in ("billing off", "tollgate"))
        if off and on and not (off.get("failed") or on.get("failed")):
            found[lane["name"]] = {"off": off["cpu_us"]["median"], "on": on["cpu_us"]["median"]}
    return found
