"""manage.py channel_disable NAME."""

from typing import Any

from django.core.management.base import CommandParser
from typing_extensions import override

from accounts.management.base import Answer, ContractCommand
from relay.channels.services import channel_disable


class Command(ContractCommand):
    help = "Send no more calls to an upstream; those that run go on to their end."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The channel's name.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        name = options["name"]
        changed = channel_disable(name=name, reason=self.actor.label, actor=self.actor)
        return {"channel": name, "changed": changed}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        already = "" if answer["changed"] else " already"
        return [f"The channel {answer['channel']} is disabled{already}."]
