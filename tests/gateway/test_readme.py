"""README.md names every setting, command and job that there is, and none that there is not."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest
from django.core.management import get_commands, load_command_class

from gateway.celery import app
from tests.gateway.running import ROOT

OUR_APPS = {"accounts", "billing", "console", "gateway", "relay"}
README = (ROOT / "README.md").read_text()
# The ones that a single node keeps in DATA_DIR have a paragraph of their own.
IN_PARAGRAPHS = {"CREDENTIAL_KEYS", "KEY_PEPPER", "SECRET_KEY"}


def section(title: str) -> str:
    """What is between a heading and the next."""
    (text,) = re.findall(rf"^##+ {title}\n(.*?)^##", README, re.DOTALL | re.MULTILINE)
    return str(text)


def first_cells(text: str) -> Iterator[str]:
    for row in re.findall(r"^\| (.+?)(?<!\\) \|", text, re.MULTILINE):
        yield str(row).replace("\\|", "|")


def read_settings() -> set[str]:
    """All variables of the environment that the gateway reads by its helpers."""
    found = set()
    for path in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id.startswith("env_")
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(str(node.args[0].value))
    return found


def test_every_setting_is_told_and_none_that_is_not_read() -> None:
    told = {
        name for cell in first_cells(section("Settings")) for name in re.findall(r"`(\w+)`", cell)
    }
    assert told | IN_PARAGRAPHS == read_settings()
    for name in IN_PARAGRAPHS:
        assert f"`{name}`" in section("Settings")


@cache
def commands() -> dict[str, set[str]]:
    """Our management commands, each with its options."""
    found = {}
    for name, application in get_commands().items():
        if application in OUR_APPS:
            command = load_command_class(application, name)
            actions = command.create_parser("manage.py", name)._actions
            found[name] = {option for action in actions for option in action.option_strings}
    return found


def told_commands() -> list[tuple[str, str]]:
    """Every command that the table names, with what stands behind it."""
    rows = "\n".join(re.findall(r"^\|.*$", section("Operate it"), re.MULTILINE))
    return re.findall(r"`([a-z_]+)((?: [^`]*)?)`", rows)


def test_every_command_is_told_and_none_that_is_not_there() -> None:
    assert {name for name, _ in told_commands()} == commands().keys()


@pytest.mark.parametrize(("name", "arguments"), told_commands())
def test_what_is_told_of_a_command_is_so(name: str, arguments: str) -> None:
    assert set(re.findall(r"--[a-z-]+", arguments)) <= commands()[name]


def test_every_job_is_told() -> None:
    told = {cell.strip("`") for cell in first_cells(section("Jobs")) if cell.startswith("`")}
    assert told == {entry["task"] for entry in app.conf.beat_schedule.values()}
