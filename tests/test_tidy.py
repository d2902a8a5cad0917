"""Sizes that keep the code readable; there are no exempt lengths."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APPS = ("gateway", "accounts", "billing", "relay", "console")
MOST_LINES = 400
MOST_TEST_LINES = 500
MOST_FUNCTION_LINES = 60
# What must never stand in the product: marks of unfinished or silenced work.
UNFINISHED = ("TODO", "FIXME", "XXX", "NotImplementedError()", "# type: ignore\n", "# noqa\n")


def modules(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return [path for path in found if "migrations" not in path.parts]


@pytest.mark.parametrize("path", modules(*APPS), ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < MOST_FUNCTION_LINES, node.name
    assert not [mark for mark in UNFINISHED if mark in text]


def test_tests_are_short() -> None:
    long = [path for path in modules("tests") if path.read_text().count("\n") > MOST_TEST_LINES]
    assert long == []
