"""manage.py spend_limit_list (--key PREFIX | --project ORG/PROJECT | --organization ORG)."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from billing.limits import LimitState, limit_scope_of, limit_states, limits_of_scope
from billing.management.base import MoneyCommand, scope_arguments
from billing.money import format_usd


class Command(MoneyCommand):
    help = "What the spend limits in force have used and have left, and when they start anew."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        scope_arguments(parser)

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        scope = limit_scope_of(
            key=options["key"], project=options["project"], organization=options["organization"]
        )
        states = limit_states(limits_of_scope(scope), now=timezone.now())
        return {"limits": [_row(state) for state in states]}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        limits = answer["limits"]
        assert isinstance(limits, list), "limits are listed"
        return [_sentence(limit) for limit in limits] or ["No spend limit is in force."]


def _row(state: LimitState) -> dict[str, Any]:
    limit, resets_at = state.limit, state.resets_at
    return {
        "limit": limit.pk,
        "organization": limit.organization.slug,
        "project": limit.project.slug if limit.project else None,
        "key": limit.api_key.prefix if limit.api_key else None,
        "per": limit.per,
        "cap_nano_usd": limit.cap_nano_usd,
        "used_nano_usd": state.used_nano_usd,
        "left_nano_usd": state.left_nano_usd,
        "resets_at": resets_at.isoformat() if resets_at else None,
    }


def _sentence(limit: Any) -> str:
    scope = limit["key"] or limit["project"] or limit["organization"]
    per = "in total" if limit["per"] == "total" else f"per {limit['per']}"
    ending = f" until {limit['resets_at']}" if limit["resets_at"] else ""
    used, cap = format_usd(limit["used_nano_usd"]), format_usd(limit["cap_nano_usd"])
    return f"{scope} has used {used} of {cap} USD {per}{ending}."
