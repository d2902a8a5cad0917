"""manage.py channel_add NAME --base-url URL --key-env VAR."""

from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError, CommandParser
from typing_extensions import override

from accounts.errors import Refused
from accounts.management.base import Answer, ContractCommand
from billing.money import PPM, InvalidMoney
from relay.channels.services import NewChannel, channel_add
from relay.management.terms import add_terms, credentials_of, terms_of


class Command(ContractCommand):
    refusals = (Refused, InvalidMoney)
    help = "Add an upstream. Its credentials are read from the environment and stored encrypted."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The channel's name.")
        parser.add_argument(
            "--base-url",
            metavar="URL",
            required=True,
            help="As the OpenAI SDK takes it, for instance https://api.openai.com/v1; the API's"
            " paths are appended to it as it stands. Azure's: https://NAME.openai.azure.com",
        )
        parser.add_argument(
            "--key-env",
            metavar="VAR",
            help="The environment variable that holds the upstream's API key: --credential with"
            " one of them.",
        )
        parser.add_argument(
            "--models",
            nargs="+",
            metavar="M",
            default=[],
            help="The models that it serves (default: all that have a price).",
        )
        parser.add_argument(
            "--cost",
            metavar="FRACTION",
            help="What it costs you of the official price, for the margin (default: 1).",
        )
        parser.add_argument(
            "--insecure", action="store_true", help="Allow plain http to another machine."
        )
        add_terms(parser)

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        variables = [*filter(None, [options["key_env"]]), *options["credential"]]
        if not variables:
            raise CommandError("A channel needs a credential: --key-env VAR or --credential VAR.")
        terms = terms_of(options)
        new = NewChannel(
            name=options["name"],
            base_url=options["base_url"],
            credentials=credentials_of(variables),
            models=options["models"],
            insecure=options["insecure"],
            cost_ppm=PPM if terms.cost_ppm is None else terms.cost_ppm,
            terms=replace(terms, base_url=None, models=None, insecure=None),
        )
        return {"channel": channel_add(new=new, actor=self.actor).name}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [f"Added the channel {answer['channel']}; every worker knows it within a second."]
