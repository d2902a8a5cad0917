"""manage.py reconcile --channel NAME --from DAY --to DAY."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer, ContractCommand
from accounts.moments import day_parse
from billing.money import format_usd
from relay.models import Reconciliation
from relay.reconciliation import reconcile

FIGURES = ("requests", "input_tokens", "output_tokens", "cost_nano_usd")


class Command(ContractCommand):
    help = (
        "Ask an upstream for its own usage and costs and compare them with our records. The"
        " channel's admin key does it (channel_set --admin-key-env)."
    )

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--channel", metavar="NAME", required=True, help="Which upstream.")
        parser.add_argument("--from", dest="first", metavar="DAY", required=True, help="In UTC.")
        parser.add_argument("--to", dest="last", metavar="DAY", required=True, help="Included.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        rows = reconcile(
            channel=options["channel"],
            first=day_parse(options["first"]),
            last=day_parse(options["last"]),
            now=timezone.now(),
        )
        return {
            "channel": options["channel"],
            "ok": not any(row.drifts for row in rows),
            "drifting": sum(bool(row.drifts) for row in rows),
            "rows": [_row(row) for row in rows],
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        rows = answer["rows"]
        assert isinstance(rows, list)
        lines = [_sentence(row) for row in rows if isinstance(row, dict)]
        return [*lines, f"{answer['drifting']} of {len(lines)} rows drift."]


def _row(row: Reconciliation) -> dict[str, Any]:
    figures = [(f"{side}{name}") for name in FIGURES for side in ("", "upstream_")]
    return {
        "day": row.day.isoformat(),
        "model": row.model,
        **{name: getattr(row, name) for name in figures},
        "drifts": row.drifts,
    }


def _sentence(row: dict[str, Any]) -> str:
    parts = [
        f"{name.removesuffix('_nano_usd').replace('_', ' ')} {_told(name, row[name])}"
        f" / {_told(name, row[f'upstream_{name}'])}"
        for name in FIGURES
        if row[name] is not None and row[f"upstream_{name}"] is not None
    ]
    mark = "DRIFT " if row["drifts"] else ""
    return f"{mark}{row['day']}  {row['model'] or 'all models'}: {', '.join(parts)}"


def _told(name: str, number: int) -> str:
    return f"${format_usd(number)}" if name.endswith("usd") else f"{number:,}"
