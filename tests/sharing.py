"""A pytest plugin: who gets what where processes share the tests (pytest-xdist, `make test`).

A file's tests stay together, and so do those of a folder whose tests share one running product.
What lasts longest goes first, so that nobody has a long one left when all others are done.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

_TOGETHER = ("tests/end_to_end/",)
# Beginnings of paths.
_LONGEST_FIRST = (
    "tests/end_to_end/",
    "tests/faults/",
    "tests/gateway/test_",
    "tests/billing/engine/",
    "tests/adversary/",
    "tests/bench/",
    "tests/relay/surface/",
    "tests/console/",
)


class Sharing(LoadScopeScheduling):  # type: ignore[misc]  # xdist tells no types.
    def _split_scope(self, nodeid: str) -> str:
        path, _, _ = nodeid.partition("::")
        return next((folder for folder in _TOGETHER if path.startswith(folder)), path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Sharing:
    config.option.loadscopereorder = False
    return Sharing(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    turns = range(len(_LONGEST_FIRST))
    return next((turn for turn in turns if item.nodeid.startswith(_LONGEST_FIRST[turn])), 99)
