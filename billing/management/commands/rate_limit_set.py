"""manage.py rate_limit_set (--key P | --project ORG/PROJECT | --organization ORG | --model M)."""

import argparse
from typing import Any

from django.core.management.base import CommandParser
from typing_extensions import override

from accounts.management.base import Answer
from billing.limits import RATES, LimitScope, limit_scope_of, rate_limit_set
from billing.management.base import MoneyCommand, scope_arguments

NO_LIMIT = "none"


def _rate(text: str) -> int | None:
    if text == NO_LIMIT:
        return None
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor {NO_LIMIT}.")
    return int(text)


class Command(MoneyCommand):
    help = "Bound how much a key, a project, an organization or a model may be called."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        scope_arguments(parser, with_model=True)
        rest = f"{NO_LIMIT} removes the limit, without the option it stays as it is."
        for rate in RATES:
            parser.add_argument(
                f"--{rate.replace('_', '-')}",
                type=_rate,
                default=argparse.SUPPRESS,
                metavar="N",
                help=f"{rate.replace('_', ' ').capitalize()}; {rest}",
            )

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        scope: LimitScope | str
        scope = options["model"] or limit_scope_of(
            key=options["key"], project=options["project"], organization=options["organization"]
        )
        rates: dict[str, int | None] = {name: options[name] for name in RATES if name in options}
        limit = rate_limit_set(scope=scope, rates=rates, actor=self.actor)
        answer: Answer = {
            "limit": limit.pk if limit else None,
            "organization": None,
            "project": None,
            "key": None,
            "model": options["model"],
        }
        if isinstance(scope, LimitScope):
            answer["organization"] = scope.organization.slug
            answer["project"] = scope.project.slug if scope.project else None
            answer["key"] = scope.api_key.prefix if scope.api_key else None
        return answer | {rate: getattr(limit, rate, None) for rate in RATES}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        scope = answer["model"] or answer["key"] or answer["project"] or answer["organization"]
        limits = [f"{answer[rate]} {rate.replace('_', ' ')}" for rate in RATES if answer[rate]]
        if not limits:
            return [f"{scope} has no rate limit any more."]
        return [f"{scope} is limited to: {', '.join(limits)}."]
