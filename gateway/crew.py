"""Processes that are replaced when they die."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gateway.processes import fork_child, send_signal
from gateway.signals import Signals

# Who lived so long, or was ready once, did not fail at the start.
_SETTLED_SECONDS = 5.0
_FREE_FAILURES = 2
_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 10.0
_POLL_SECONDS = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Role:
    """What one process of the crew does, with the descriptors that it needs.

    The body gets the descriptor of a pipe, to which it may write a byte when it is ready.
    """

    name: str
    body: Callable[[int], None]
    keep: tuple[int, ...] = ()


class Post:
    """A place in the crew, and the process that fills it now."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.pid: int | None = None
        self.ready = False
        # How often in a row the process has died before it was of use.
        self.failures = 0
        self.due_at = 0.0
        self.exit_code = 0
        self._started_at = 0.0
        self._ready_reader: int | None = None

    @property
    def descriptors(self) -> list[int]:
        return [] if self._ready_reader is None else [self._ready_reader]

    def start(self, *, now: float) -> None:
        reader, writer = os.pipe()
        self.pid = fork_child(lambda: self.role.body(writer), keep=(*self.role.keep, writer))
        os.close(writer)
        self._ready_reader = reader
        self._started_at = now

    def hear(self, readable: Sequence[int]) -> bool:
        """Read what the process has to say; True if it has become ready."""
        if self._ready_reader is None or self._ready_reader not in readable:
            return False
        said = os.read(self._ready_reader, 1)
        self._forget_pipe()
        self.ready = bool(said)
        return self.ready

    def bury(self, *, now: float) -> bool:
        """If the process has died, note when it is to be replaced; True if it has."""
        if self.pid is None:
            return False
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return False
        settled = self.ready or now - self._started_at >= _SETTLED_SECONDS
        self.failures = 0 if settled else self.failures + 1
        self.due_at = now + _delay_seconds(self.failures)
        self.exit_code = os.waitstatus_to_exitcode(status)
        self.pid = None
        self.ready = False
        self._forget_pipe()
        return True

    def _forget_pipe(self) -> None:
        if self._ready_reader is not None:
            os.close(self._ready_reader)
            self._ready_reader = None


class Crew:
    """All the posts, in the order in which they were added."""

    def __init__(self, signals: Signals) -> None:
        self.posts: list[Post] = []
        self._signals = signals

    def add(self, role: Role) -> Post:
        post = Post(role)
        self.posts.append(post)
        post.start(now=time.monotonic())
        return post

    def watch(self, *, timeout_seconds: float) -> bool:
        """Wait for something to happen and replace who has died; True if anything changed."""
        now = time.monotonic()
        due = [post.due_at - now for post in self.posts if post.pid is None]
        readable = self._signals.wait(
            [descriptor for post in self.posts for descriptor in post.descriptors],
            timeout_seconds=min([timeout_seconds, *due]),
        )
        now = time.monotonic()
        changed = [post.hear(readable) for post in self.posts]
        for post in self.posts:
            if post.bury(now=now):
                logger.error("%s has ended with %d", post.role.name, post.exit_code)
                changed.append(True)
            if post.pid is None and post.due_at <= now and not self._signals.stop_requested:
                post.start(now=now)
                changed.append(True)
        return any(changed)

    def dismiss(self, posts: Iterable[Post], *, patience_seconds: float) -> None:
        """Stop these processes and wait for their end. Who takes too long is killed."""
        leaving = [post for post in posts if post.pid is not None]
        for post in leaving:
            self._tell(post, signal.SIGTERM)
        deadline = time.monotonic() + patience_seconds
        hurried = killed = False
        while leaving := [post for post in leaving if not post.bury(now=time.monotonic())]:
            if self._signals.hurry_requested and not hurried:
                hurried = True
                for post in leaving:
                    self._tell(post, signal.SIGTERM)
            if time.monotonic() > deadline and not killed:
                killed = True
                for post in leaving:
                    logger.error("%s does not stop and is killed", post.role.name)
                    self._tell(post, signal.SIGKILL)
            self._signals.wait([], timeout_seconds=_POLL_SECONDS)

    @staticmethod
    def _tell(post: Post, number: signal.Signals) -> None:
        if post.pid is not None:
            send_signal(post.pid, number)


def _delay_seconds(failures: int) -> float:
    """One that dies at once, again and again, must not keep the machine busy with its funerals."""
    if failures <= _FREE_FAILURES:
        return 0.0
    return min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** (failures - _FREE_FAILURES))
