"""manage.py channel_test NAME [--model M] [--stream]."""

from typing import Any

from django.core.management.base import CommandParser
from typing_extensions import override

from accounts.management.base import Answer, ContractCommand
from relay.channels.trial import channel_test


class Command(ContractCommand):
    help = "Send a small real call upstream with each credential; upstream may charge for it."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The channel's name.")
        parser.add_argument(
            "--model", default="", metavar="M", help="A public model (default: its first)."
        )
        parser.add_argument("--stream", action="store_true", help="Ask for a streamed answer.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        name, stream = options["name"], options["stream"]
        trials = channel_test(name=name, model=options["model"], stream=stream)
        return {
            "channel": name,
            "ok": all(trial["ok"] for trial in trials),
            "stream": stream,
            "credentials": [dict(trial) for trial in trials],
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        trials = answer["credentials"]
        assert isinstance(trials, list)
        return [_sentence(trial) for trial in trials if isinstance(trial, dict)]


def _sentence(trial: dict[str, Any]) -> str:
    if trial["ok"]:
        return (
            f"{trial['credential']}: well, first byte after {trial['first_byte_ms']} ms,"
            f" all after {trial['total_ms']} ms."
        )
    return f"{trial['credential']}: FAILED after {trial['total_ms']} ms: {trial['error']}"
