"""What the commands have in common: JSON for programs, sentences for people, an audited actor."""

import json
import os
import pwd
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError, CommandParser
from typing_extensions import override

from accounts.audit_trail import Actor
from accounts.errors import Refused

# Flat, but for the commands that list things: one flat object for each.
Answer = dict[str, str | int | bool | list[str] | list[dict[str, Any]] | None]


class ContractCommand(BaseCommand, ABC):
    """A command whose answer other programs rely on.

    `answer` makes one domain call and returns the flat object that `--json` prints as the last
    line; `sentences` tells a person the same. What the domain refuses ends with status 1, and so
    does an answer that says `"ok": false`.
    """

    # Checking the console's URLs takes longer than the work, and is no business of it.
    requires_system_checks = ()
    refusals: ClassVar[tuple[type[Exception], ...]] = (Refused,)

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Answer with one line of JSON.")
        self.add_contract_arguments(parser)

    @abstractmethod
    def add_contract_arguments(self, parser: CommandParser) -> None: ...

    @abstractmethod
    def answer(self, options: dict[str, Any]) -> Answer: ...

    @abstractmethod
    def sentences(self, answer: Answer) -> list[str]: ...

    @property
    def actor(self) -> Actor:
        return command_actor(type(self).__module__.rpartition(".")[2])

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        try:
            answer = self.answer(options)
        except self.refusals as refusal:
            raise CommandError(str(refusal)) from refusal
        if options["json"]:
            self.stdout.write(json.dumps(answer))
        else:
            self.stdout.write("\n".join(self.sentences(answer)))
        if answer.get("ok") is False:
            raise SystemExit(1)


def command_actor(command: str) -> Actor:
    return Actor(user_id=None, label=f"command:{command} ({_unix_user()})")


def _unix_user() -> str:
    """Who runs this process, asked of the system: the environment could say anything."""
    user_id = os.getuid()
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:  # A container may run under an id without a name.
        return f"uid {user_id}"
