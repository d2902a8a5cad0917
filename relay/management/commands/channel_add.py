"""manage.py channel_add NAME --base-url URL --key-env VAR."""

import os
from typing import Any

from django.core.management.base import CommandError, CommandParser
from typing_extensions import override

from accounts.errors import Refused
from accounts.management.base import Answer, ContractCommand
from billing.money import InvalidMoney, parse_fraction_ppm
from relay.channels import NewChannel, channel_add


class Command(ContractCommand):
    refusals = (Refused, InvalidMoney)
    help = "Add an upstream. Its credential is read from the environment and stored encrypted."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The channel's name.")
        parser.add_argument(
            "--base-url",
            metavar="URL",
            required=True,
            help="As the OpenAI SDK takes it, for instance https://api.openai.com/v1; the API's"
            " paths are appended to it as it stands.",
        )
        parser.add_argument(
            "--key-env",
            metavar="VAR",
            required=True,
            help="The environment variable that holds the upstream's API key.",
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
            default="1",
            help="What it costs you of the official price, for the margin (default: 1).",
        )
        parser.add_argument(
            "--insecure", action="store_true", help="Allow plain http to another machine."
        )

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        variable = options["key_env"]
        credential = os.environ.get(variable, "").strip()
        if not credential:
            raise CommandError(f"The environment variable {variable} is not set, or empty.")
        new = NewChannel(
            name=options["name"],
            base_url=options["base_url"],
            credential=credential,
            models=options["models"],
            insecure=options["insecure"],
            cost_ppm=parse_fraction_ppm(options["cost"], allow_surcharge=True),
        )
        return {"channel": channel_add(new=new, actor=self.actor).name}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [f"Added the channel {answer['channel']}; every worker knows it within a second."]
