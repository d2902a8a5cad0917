"""manage.py price_import FILE."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from billing.management.base import MoneyCommand
from billing.models import PriceImport
from billing.prices.feeds import FORMATS, price_import_open

LITELLM_MAP = "https://docs.litellm.ai/docs/sync_models_github"


class Command(MoneyCommand):
    help = "Read prices from a feed and show what they would change; nothing changes yet."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="The feed, or - for standard input.")
        parser.add_argument("--format", choices=list(FORMATS), default="litellm")
        parser.add_argument(
            "--source", metavar="URL", default=LITELLM_MAP, help="Where it is from, for the record."
        )

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        pending = price_import_open(
            text=_text(options["file"]),
            form=options["format"],
            source=options["source"],
            actor=self.actor,
            now=timezone.now(),
        )
        return {
            "import": pending.pk,
            "changed": [change["model"] for change in pending.changes],
            "refused": [refusal["model"] for refusal in pending.refused],
            "unchanged": pending.unchanged,
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        pending = PriceImport.objects.get(pk=str(answer["import"]))
        lines = []
        for change in pending.changes:
            new = " (new)" if change["is_new"] else ""
            lines.append(f"{change['model']}{new}  {change['preview']}")
            lines += [f"    {line}" for line in change["changes"]]
        lines += [f"refused {row['model']}: {row['reason']}" for row in pending.refused]
        counts = f"{len(pending.changes)} changed, {len(pending.refused)} refused"
        return [
            *lines,
            f"{counts}, {pending.unchanged} unchanged.",
            f"Take them over: manage.py price_import_decide {pending.pk} approve",
        ]


def _text(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{name} cannot be read: {error}") from error
