"""Python programs in processes of their own: to be killed, interrupted, or run as another user."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A user that is not root and owns nothing.
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# The interpreter itself may be out of that user's reach, so it starts as root, loads what it will
# need and then becomes the user for good.
_BECOME = """
import encodings.ascii, encodings.idna, json, os, sys, psycopg
from gateway.data_directory import *
from gateway.postgres import *
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
"""
_STAY = """
import json, os, signal, sys, psycopg
from gateway.data_directory import *
from gateway.postgres import *
"""


def _command(code: str, arguments: tuple[str | Path, ...], uid: int) -> list[str]:
    prelude = _BECOME.format(uid=uid) if uid else _STAY
    return [sys.executable, "-c", prelude + code, *map(str, arguments)]


def run_python(code: str, *arguments: str | Path, uid: int = 0) -> str:
    """What the program prints. It must end well."""
    done = subprocess.run(
        _command(code, arguments, uid),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Child:
    """A running program that the test talks to, line by line, over its standard streams.

    It leads a process group of its own, like a command typed at a terminal.
    """

    def __init__(self, code: str, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            _command(code, arguments, 0),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    @property
    def pid(self) -> int:
        return self.process.pid

    def read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the program ended early"
        return line.strip()

    def say(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def finish(self) -> int:
        self.process.communicate(timeout=60)
        return self.process.returncode

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
