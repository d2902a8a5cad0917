"""manage.py api_key_revoke PREFIX."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.api_keys import api_key_revoke
from accounts.management.base import Answer, ContractCommand


class Command(ContractCommand):
    help = "Revoke an API key for ever; every worker knows within a second."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", metavar="PREFIX", help="The key's prefix, as it is listed.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        prefix = options["prefix"]
        changed = api_key_revoke(prefix=prefix, actor=self.actor, now=timezone.now())
        return {"prefix": prefix, "changed": changed}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        already = "" if answer["changed"] else " already"
        return [f"{answer['prefix']} is revoked{already}."]
