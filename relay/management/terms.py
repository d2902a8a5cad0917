"""The options that say how a channel is reached and chosen, and the credentials' variables."""

import os
from typing import Any

from django.core.management.base import CommandError, CommandParser

from billing.money import parse_fraction_ppm, parse_usd
from relay.channels.balances import KINDS
from relay.channels.services import ChannelTerms
from relay.channels.terms import pairs_parse


def add_terms(parser: CommandParser) -> None:
    option = parser.add_argument
    option("--priority", type=int, metavar="N", help="Higher is tried first (default: 0).")
    option("--weight", type=int, metavar="N", help="Its share within its priority (default: 1).")
    option(
        "--model-map",
        nargs="+",
        action="extend",
        metavar="PUBLIC=UPSTREAM",
        help="What upstream calls a model; with --kind azure, its deployment.",
    )
    option(
        "--concurrency",
        type=int,
        metavar="N",
        help="Calls at once in each serving process (default: 0, no limit).",
    )
    option(
        "--credential",
        nargs="+",
        action="extend",
        metavar="VAR",
        default=[],
        help="Environment variables that hold upstream's API keys, one for each credential;"
        " their names become the credentials' labels, and a label that exists is rotated.",
    )
    option(
        "--proxy",
        metavar="URL",
        help="http://, https://, socks5:// or socks5h://; empty: none.",
    )
    option(
        "--header",
        action="append",
        metavar="NAME=VALUE",
        help="An extra header of every call, instead of those that were said before.",
    )
    option(
        "--admin-key-env",
        metavar="VAR",
        help="The environment variable that holds an admin key of upstream's organization, to read"
        " its usage and costs by (reconcile); empty: none.",
    )
    option("--kind", choices=["openai", "azure"], help="Whose manners it has (default: openai).")
    option(
        "--balance",
        choices=["none", *KINDS],
        help="How upstream tells what money is left there (default: none, it is not asked).",
    )
    option(
        "--balance-low",
        metavar="AMOUNT",
        help="Less of upstream's currency is an alarm; 0: never (default).",
    )
    option("--api-version", metavar="V", help="Azure's API version; empty: its v1 API.")
    option("--http2", choices=["on", "off"], help="Speak HTTP/2 where it can (default: off).")
    for what in ("connect", "first-byte", "idle"):
        option(f"--{what}-seconds", type=float, metavar="S", help="0: as the installation has it.")


def terms_of(options: dict[str, Any]) -> ChannelTerms:
    """What the options say. Raises UnusableTerms, InvalidMoney."""
    mapped, headers, cost = (options.get(name) for name in ("model_map", "header", "cost"))
    http2, balance, low = options["http2"], options["balance"], options["balance_low"]
    variable = options["admin_key_env"]
    return ChannelTerms(
        admin_key=_secret(variable) if variable else variable,
        base_url=options.get("base_url"),
        insecure=options.get("insecure") or None,
        models=options.get("models") or None,
        model_map=None if mapped is None else pairs_parse(mapped, form="PUBLIC=UPSTREAM"),
        priority=options["priority"],
        weight=options["weight"],
        concurrency=options["concurrency"],
        cost_ppm=None if cost is None else parse_fraction_ppm(cost, allow_surcharge=True),
        balance=None if balance is None else balance.replace("none", ""),
        balance_low_nano=None if low is None else parse_usd(low),
        kind=options["kind"],
        api_version=options["api_version"],
        http2=None if http2 is None else http2 == "on",
        proxy=options["proxy"],
        headers=None if headers is None else pairs_parse(headers, form="NAME=VALUE"),
        connect_seconds=options["connect_seconds"],
        first_byte_seconds=options["first_byte_seconds"],
        idle_seconds=options["idle_seconds"],
    )


def credentials_of(variables: list[str]) -> dict[str, str]:
    """The credentials in these environment variables, by the variables' names."""
    return {variable: _secret(variable) for variable in variables}


def _secret(variable: str) -> str:
    secret = os.environ.get(variable, "").strip()
    if not secret:
        raise CommandError(f"The environment variable {variable} is not set, or empty.")
    return secret
