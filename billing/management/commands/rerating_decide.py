"""manage.py rerating_decide RERATING (apply | drop)."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from billing.management.base import MoneyCommand
from billing.models import Rerating
from billing.money import format_usd
from billing.rerating import rerating_apply, rerating_drop, reratings_continue

APPLY, DROP = "apply", "drop"


class Command(MoneyCommand):
    help = (
        "Make a re-rating count, or put it aside. Whatever interrupts it, a job goes on with it;"
        " and nothing is done twice."
    )

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="RERATING", help="As rerating_preview told it.")
        parser.add_argument("decision", choices=[APPLY, DROP])

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        rerating_id, now = options["id"], timezone.now()
        if options["decision"] == DROP:
            rerating_drop(rerating_id=rerating_id, actor=self.actor, now=now)
        else:
            rerating_apply(rerating_id=rerating_id, actor=self.actor, now=now)
            reratings_continue(actor=self.actor, now=now)
        rerating = Rerating.objects.get(pk=rerating_id)
        lines = list(rerating.lines.all())
        given_back = (min(0, line.difference_nano_usd) for line in lines if line.settled_at)
        return {
            "rerating": rerating_id,
            "state": rerating.state,
            "changed_calls": sum(line.changed_calls for line in lines),
            "difference_nano_usd": sum(line.difference_nano_usd for line in lines),
            "given_back_nano_usd": -sum(given_back),
            "collected_nano_usd": sum(line.collected_nano_usd for line in lines),
            "waived_nano_usd": sum(line.waived_nano_usd for line in lines),
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        given, taken, waived = (
            format_usd(int(str(answer[f"{name}_nano_usd"])))
            for name in ("given_back", "collected", "waived")
        )
        moved = f"{given} USD given back, {taken} USD collected, {waived} USD waived"
        return [
            f"Re-rating {answer['rerating']} is {answer['state']}.",
            f"{answer['changed_calls']} calls changed: {moved}.",
        ]
