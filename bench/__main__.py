"""python -m bench quick | ...: see bench/README.md."""

import argparse
import sys
from collections.abc import Sequence

from bench.quick import Quick, lines, quick

_USUAL = Quick()


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
    chosen = parser.parse_args(arguments)
    status: int = chosen.run(chosen)
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


sys.exit(main())
