"""Management commands as the contract has them: arguments in, one flat JSON object out."""

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

ROOT = Path(__file__).resolve().parent.parent


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a management command as an operator would; its failure is the test's to judge."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def say(command: str, *arguments: str) -> str:
    """What the command tells a person."""
    output = StringIO()
    call_command(command, *arguments, stdout=output)
    return output.getvalue()


def complain(command: str, *arguments: str) -> str:
    """What a command tells a person that ends with status 1 because all is not well."""
    output = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command(command, *arguments, stdout=output)
    assert ended.value.code == 1
    return output.getvalue()


def ask(command: str, *arguments: str) -> dict[str, Any]:
    """The last line of the command's `--json`."""
    return _answer(say(command, *arguments, "--json"))


def ask_in_vain(command: str, *arguments: str) -> dict[str, Any]:
    """The same of a command that ends with status 1."""
    return _answer(complain(command, *arguments, "--json"))


def _answer(output: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    assert _is_flat(answer), "it is not flat"
    for value in answer.values():
        for row in value if isinstance(value, list) else ():
            assert not isinstance(row, dict) or _is_flat(row), "a row of its list is not flat"
    return answer


def _is_flat(row: dict[str, Any]) -> bool:
    return not any(isinstance(value, dict) for value in row.values())
