"""python -m bench.capacity [simulate | validate | measure | plan]: see docs/capacity.md."""

import argparse
import json
import os
import sys

from bench.capacity.planning import INPUTS, table
from bench.machine import description

MOST_APART = 0.3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    commands = parser.add_subparsers()
    parser.set_defaults(run=_simulate, whole=False, seed=1, only="")
    simulate = commands.add_parser("simulate", help="many nodes on one database, in virtual time")
    simulate.add_argument("--whole", action="store_true", help="also what takes minutes")
    simulate.add_argument("--seed", type=int, default=1)
    simulate.add_argument("--only", default="", metavar="WORDS", help="scenarios named so")
    simulate.set_defaults(run=_simulate)
    check = commands.add_parser("validate", help="the simulation beside a real PostgreSQL")
    check.set_defaults(run=_validate)
    measure = commands.add_parser("measure", help="what PostgreSQL needs for leases and records")
    measure.add_argument("--records", type=int, default=1_000_000)
    measure.set_defaults(run=_measure)
    plan = commands.add_parser("plan", help="the table of docs/capacity.md, from inputs.json")
    plan.set_defaults(run=_plan)
    chosen = parser.parse_args()
    status: int = chosen.run(chosen)
    return status


def _simulate(chosen: argparse.Namespace) -> int:
    from bench.capacity.report import QUICK, WHOLE, lines, played  # They need the product.

    plans = [plan for plan in (WHOLE if chosen.whole else QUICK) if chosen.only in plan.name]
    status = 0
    for seen in played(plans, seed=chosen.seed, processes=len(os.sched_getaffinity(0))):
        print("\n".join(lines(seen)), flush=True)
        status = max(status, int(bool(seen.errors)))
    return status


def _validate(_: argparse.Namespace) -> int:
    from bench.capacity.validation import validate  # It needs the product.

    status = 0
    for compared in validate():
        print(f"\n{compared.name}: {'':<27}real  simulated")
        for name, real in compared.real.items():
            print(f"  {name:<36}{real:>9,}  {compared.simulated[name]:>9,}")
        if compared.far_apart(tolerance=MOST_APART):
            print(f"  more than {100 * MOST_APART:.0f} % apart")
            status = 1
    return status


def _measure(chosen: argparse.Namespace) -> int:
    from bench.capacity.measuring import measure  # It needs the product.

    inputs = json.loads(INPUTS.read_text()) if INPUTS.exists() else {}
    inputs["postgres"] = dict(measure(records=chosen.records))
    inputs["machine"] = description()
    INPUTS.write_text(json.dumps(inputs, indent=1) + "\n")
    print(json.dumps(inputs["postgres"], indent=1))
    return 0


def _plan(_: argparse.Namespace) -> int:
    print(table())
    return 0


sys.exit(main())
