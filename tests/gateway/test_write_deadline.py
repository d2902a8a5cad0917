"""When a reader counts as gone: tried on a clock that the test moves."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from gateway.write_deadline import LOOKS, WriteDeadline


class Stage:
    """As much of a transport and of an event loop as the deadline uses."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self.aborted = False
        self.pauses: list[float] = []
        self._callback: Callable[[], Any] | None = None
        self.deadline = WriteDeadline(
            cast("asyncio.Transport", self),
            loop=cast("asyncio.AbstractEventLoop", self),
            seconds=60,
        )

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def abort(self) -> None:
        self.aborted = True

    def call_later(self, pause: float, callback: Callable[[], Any]) -> "Stage":
        assert self._callback is None, "one look at a time"
        self.pauses.append(pause)
        self._callback = callback
        return self

    def cancel(self) -> None:
        self._callback = None

    @property
    def watches(self) -> bool:
        return self._callback is not None

    def look(self, waiting_bytes: int) -> None:
        """Some time later, that much is waiting."""
        assert self._callback is not None, "it does not watch"
        self.waiting_bytes = waiting_bytes
        callback, self._callback = self._callback, None
        callback()


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_who_takes_nothing_is_cut_when_the_time_is_over(stage: Stage) -> None:
    stage.waiting_bytes = 100_000
    stage.deadline.start()
    for _ in range(LOOKS):
        assert not stage.aborted
        stage.look(100_000)
    assert stage.aborted
    assert not stage.watches
    assert sum(stage.pauses) == 60


def test_a_single_byte_begins_the_time_anew(stage: Stage) -> None:
    stage.waiting_bytes = 100_000
    stage.deadline.start()
    for taken in range(100):
        for _ in range(LOOKS - 1):
            stage.look(100_000 - taken)
        stage.look(99_999 - taken)
    assert not stage.aborted
    for _ in range(LOOKS):
        stage.look(99_900)
    assert stage.aborted


def test_it_ends_when_nothing_waits(stage: Stage) -> None:
    stage.waiting_bytes = 100_000
    stage.deadline.start()
    stage.look(0)
    assert not stage.watches
    assert not stage.aborted


def test_it_ends_when_the_buffer_has_room_again(stage: Stage) -> None:
    stage.waiting_bytes = 100_000
    stage.deadline.start()
    stage.deadline.stop()
    assert not stage.watches
    # And a later start counts from then.
    stage.deadline.start()
    for _ in range(LOOKS - 1):
        stage.look(100_000)
    stage.deadline.stop()
    stage.deadline.start()
    stage.look(100_000)
    assert not stage.aborted


def test_to_start_it_twice_is_to_start_it_once(stage: Stage) -> None:
    stage.waiting_bytes = 100_000
    stage.deadline.start()
    stage.look(100_000)
    stage.deadline.start()
    for _ in range(LOOKS - 1):
        stage.look(100_000)
    assert stage.aborted
