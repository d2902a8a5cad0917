"""Management commands as the contract has them: arguments in, one flat JSON object out."""

import json
from io import StringIO
from typing import Any

from django.core.management import call_command


def say(command: str, *arguments: str) -> str:
    """What the command tells a person."""
    output = StringIO()
    call_command(command, *arguments, stdout=output)
    return output.getvalue()


def ask(command: str, *arguments: str) -> dict[str, Any]:
    """The last line of the command's `--json`."""
    answer: dict[str, Any] = json.loads(say(command, *arguments, "--json").splitlines()[-1])
    assert _is_flat(answer), "it is not flat"
    for value in answer.values():
        for row in value if isinstance(value, list) else ():
            assert not isinstance(row, dict) or _is_flat(row), "a row of its list is not flat"
    return answer


def _is_flat(row: dict[str, Any]) -> bool:
    return not any(isinstance(value, dict) for value in row.values())
