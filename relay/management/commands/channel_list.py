"""manage.py channel_list."""

from typing import Any

from django.core.management.base import CommandParser
from typing_extensions import override

from accounts.management.base import Answer, ContractCommand
from relay.channels.views import channel_list


class Command(ContractCommand):
    help = "List the upstreams in the order in which they are tried; secrets are never shown."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        pass

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        return {"channels": [dict(view) for view in channel_list()]}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        channels = answer["channels"]
        assert isinstance(channels, list)
        return [_sentence(one) for one in channels if isinstance(one, dict)] or ["No channels."]


def _sentence(one: dict[str, Any]) -> str:
    state = "" if one["enabled"] else f" (disabled: {one['disabled_reason'] or 'no reason given'})"
    told = "".join(_check(check) for check in one["checks"])
    refused = "".join(f", REFUSED {label}" for label in one["credentials_refused"])
    return (
        f"{one['channel']}{state}: priority {one['priority']}, weight {one['weight']},"
        f" {one['kind']} {one['base_url']}, credentials {', '.join(one['credentials']) or 'none'}"
        f"{refused}{told}"
    )


def _check(check: dict[str, Any]) -> str:
    """What the last check of a credential says that one should know."""
    said = f"; {check['credential']}: "
    if not check["ok"]:
        return f"{said}{check['error']}"
    if check["balance"] is not None:
        low = ", LOW" if check["balance_is_low"] else ""
        return f"{said}{check['balance']} {check['balance_currency']} left{low}"
    return f"{said}{check['balance_error']}" if check["balance_error"] else ""
