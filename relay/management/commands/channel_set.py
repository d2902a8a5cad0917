"""manage.py channel_set NAME [--priority N] [--weight N] ..."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from typing_extensions import override

from accounts.errors import Refused
from accounts.management.base import Answer, ContractCommand
from billing.money import InvalidMoney
from relay.channels.credentials import credential_disable, credential_enable, credential_remove
from relay.channels.services import ChannelTerms, channel_enable, channel_set
from relay.management.terms import add_terms, credentials_of, terms_of

NOTHING = ChannelTerms()


class Command(ContractCommand):
    refusals = (Refused, InvalidMoney)
    help = "Change an upstream: what is not said stays as it is."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The channel's name.")
        parser.add_argument("--base-url", metavar="URL", help="Where it is from now on.")
        parser.add_argument("--models", nargs="+", metavar="M", help="The only ones it serves.")
        parser.add_argument("--cost", metavar="FRACTION", help="Of the official price.")
        parser.add_argument("--insecure", action="store_true", help="Allow plain http.")
        parser.add_argument("--enable", action="store_true", help="Send calls to it again.")
        add_terms(parser)
        for what, help_text in (
            ("disable", "Use this credential no more."),
            ("enable", "Use this credential again, and end the alarm about it."),
            ("remove", "Forget this credential."),
        ):
            parser.add_argument(f"--credential-{what}", metavar="LABEL", help=help_text)

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        name, actor = options["name"], self.actor
        terms, credentials = terms_of(options), credentials_of(options["credential"])
        done = False
        if terms != NOTHING or credentials:
            channel_set(name=name, terms=terms, credentials=credentials, actor=actor)
            done = True
        if options["enable"]:
            channel_enable(name=name, actor=actor)
            done = True
        if label := options["credential_disable"]:
            credential_disable(channel=name, label=label, reason=actor.label, actor=actor)
            done = True
        if label := options["credential_enable"]:
            credential_enable(channel=name, label=label, actor=actor)
            done = True
        if label := options["credential_remove"]:
            credential_remove(channel=name, label=label, actor=actor)
            done = True
        if not done:
            raise CommandError("Say what to change: see --help.")
        return {"channel": name}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [f"Changed the channel {answer['channel']}; every worker knows within a second."]
