"""python -m bench quick | ...: see bench/README.md."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.guard import guard
from bench.plans import Full, Quick
from bench.quick import lines, quick
from bench.render import render
from bench.workshop import Unavailable

_USUAL = Quick()
_WHOLE = Full()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True)
    short = commands.add_parser("quick", help="Tollgate beside nginx, in half a minute")
    short.add_argument("--rounds", type=int, default=_USUAL.rounds)
    short.add_argument("--seconds", type=float, default=_USUAL.seconds)
    short.add_argument("--streams", type=int, default=_USUAL.streams, help="how many are open")
    short.add_argument("--only", choices=["calls", "streams"], default="")
    short.add_argument(
        "--of", default="", metavar="CODE", help="a commit or a folder (default: the files here)"
    )
    short.add_argument("--against", default="", metavar="CODE", help="measure that one, too")
    short.set_defaults(run=_quick)
    whole = commands.add_parser("full", help="every gateway and lane, with tables and charts")
    whole.add_argument("--rounds", type=int, default=_WHOLE.rounds)
    whole.add_argument("--seconds", type=float, default=_WHOLE.seconds, help="of each measurement")
    whole.add_argument("--minutes", type=float, default=_WHOLE.minutes, help="of the long run")
    whole.add_argument("--of", default="", metavar="CODE")
    whole.add_argument("--without-peers", action="store_true")
    whole.add_argument("--folder", type=Path, default=_WHOLE.folder)
    whole.set_defaults(run=_full)
    check = commands.add_parser("guard", help="fail if a call costs far too much")
    check.add_argument("--commit", action="store_true", help="let what is measured be the measure")
    check.set_defaults(run=_guard)
    again = commands.add_parser("render", help="tables and charts of results that exist")
    again.add_argument("folder", type=Path)
    again.set_defaults(run=_render)
    chosen = parser.parse_args(arguments)
    # Whoever is told to end still ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        status: int = chosen.run(chosen)
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 2
    return status


def _quick(chosen: argparse.Namespace) -> int:
    plan = Quick(
        rounds=chosen.rounds,
        seconds=chosen.seconds,
        streams=chosen.streams,
        only=chosen.only,
        of=chosen.of,
        against=chosen.against,
    )
    print("\n".join(lines(quick(plan))))
    return 0


def _full(chosen: argparse.Namespace) -> int:
    from bench.full import full  # It needs the product's own modules.

    plan = Full(
        rounds=chosen.rounds,
        seconds=chosen.seconds,
        minutes=chosen.minutes,
        of=chosen.of,
        peers=not chosen.without_peers,
        folder=chosen.folder,
    )
    print(full(plan))
    return 0


def _guard(chosen: argparse.Namespace) -> int:
    told, problems = guard(commit=chosen.commit)
    print("\n".join([*told, *problems]))
    return 1 if problems else 0


def _render(chosen: argparse.Namespace) -> int:
    render(chosen.folder)
    return 0


sys.exit(main())
