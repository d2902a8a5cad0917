"""`manage.py` for who runs many commands: one process has imported everything, and forks for each.

    python -m tests.command_line

Each line on the standard input is a JSON object with the command's `arguments` and with what is
further in its `environment`; for each, a line with its `status`, `stdout` and `stderr` comes back.
A command is as alone as one that a shell starts, but costs a tenth of the time.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parent.parent
MOST_SECONDS = 120


class CommandLine:
    """The other end of such a process."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.command_line"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"arguments": arguments, "environment": environment}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        return subprocess.CompletedProcess(
            arguments, told["status"], stdout=told["stdout"], stderr=told["stderr"]
        )

    def close(self) -> None:
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve() -> None:
    """Returns where the input ends, and in each child, which is to run what `sys.argv` says."""
    for line in sys.stdin:
        asked = json.loads(line)
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            pid = os.fork()
            if not pid:
                return become(asked, output, errors)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            told = {"status": status, "stdout": read(output), "stderr": read(errors)}
        print(json.dumps(told), flush=True)
    sys.exit()


def become(asked: dict[str, Any], output: IO[str], errors: IO[str]) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for own, standard in ((nothing, 0), (output.fileno(), 1), (errors.fileno(), 2)):
        os.dup2(own, standard)
    signal.alarm(MOST_SECONDS)
    os.environ.update(asked["environment"])
    sys.argv[1:] = asked["arguments"]


def read(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


if __name__ == "__main__":
    import django

    import manage
    from gateway.launch import prepare_environment

    prepare_environment()
    django.setup()
    serve()
    manage.main()
