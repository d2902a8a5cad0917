"""Forked children, in a program of their own: a fork of the test session would be no fair trial."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.gateway.running import ROOT, alive, until

_PRELUDE = """
import os, signal, sys, time
from gateway.crew import Crew, Role
from gateway.processes import fork_child
from gateway.signals import Signals, StopRequested
"""


def run(code: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_child_gets_the_descriptors_it_needs_and_no_other(tmp_path: Path) -> None:
    printed = run(
        """
lock = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
reader, writer = os.pipe()
def body():
    os.write(writer, b"x")
    for descriptor in (lock, reader):
        try:
            os.fstat(descriptor)
        except OSError:
            print("closed", flush=True)
os.waitpid(fork_child(body, keep=[writer]), 0)
print(os.read(reader, 1), os.fstat(lock).st_size)
""",
        tmp_path / "lock",
    )
    assert printed == "closed\nclosed\nb'x' 0\n"


def test_a_child_ends_with_what_its_body_says() -> None:
    printed = run("""
def fails():
    sys.stderr = sys.stdout
    raise ValueError("on purpose")
for body in (lambda: None, lambda: sys.exit(7), fails):
    print(os.waitstatus_to_exitcode(os.waitpid(fork_child(body, keep=[]), 0)[1]), flush=True)
""")
    assert printed.splitlines()[:2] == ["0", "7"]
    assert printed.splitlines()[-2:] == ["ValueError: on purpose", "1"]


def test_a_child_follows_its_supervisor_and_not_the_terminal() -> None:
    """It stays through Ctrl-C and a closed terminal, in a group of its own, without input."""
    printed = run("""
reader, writer = os.pipe()
def body():
    print(os.getpgid(0) == os.getpid(), os.read(0, 1), flush=True)
    os.write(writer, b"x")
    signal.pause()
pid = fork_child(body, keep=[writer])
os.read(reader, 1)
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    os.kill(pid, number)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""")
    assert printed == f"True b''\n{-signal.SIGTERM}\n"


def test_a_child_ends_with_its_parent() -> None:
    program = """
reader, writer = os.pipe()
def body():
    os.write(writer, b"x")
    signal.pause()
pid = fork_child(body, keep=[writer])
os.read(reader, 1)
print(pid, flush=True)
signal.pause()
"""
    with subprocess.Popen(
        [sys.executable, "-c", _PRELUDE + program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    until(lambda: not alive(child))


def test_a_crew_replaces_who_dies_and_is_patient_with_who_keeps_dying() -> None:
    printed = run("""
def works(ready):
    os.write(ready, b"x")
    signal.pause()
with Signals() as signals:
    crew = Crew(signals)
    worker = crew.add(Role(name="worker", body=works))
    while not worker.ready:
        crew.watch(timeout_seconds=10)
    before = worker.pid
    os.kill(before, signal.SIGKILL)
    while worker.pid == before or not worker.ready:
        crew.watch(timeout_seconds=10)
    print("replaced", worker.failures)
    broken = crew.add(Role(name="broken", body=lambda ready: sys.exit(3)))
    while broken.failures < 4:
        crew.watch(timeout_seconds=10)
    # The first two attempts follow at once; then each waits twice as long.
    print(0.5 < broken.due_at - time.monotonic() <= 1.0, broken.exit_code)
    crew.dismiss(crew.posts, patience_seconds=10)
    print(worker.pid, broken.pid)
""")
    assert printed == "replaced 0\nTrue 3\nNone None\n"


def test_a_crew_kills_who_does_not_leave() -> None:
    printed = run("""
def deaf(ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(ready, b"x")
    while True:
        signal.pause()
with Signals() as signals:
    crew = Crew(signals)
    post = crew.add(Role(name="deaf", body=deaf))
    while not post.ready:
        crew.watch(timeout_seconds=10)
    crew.dismiss([post], patience_seconds=0)
    print(post.exit_code)
""")
    assert printed == f"{-signal.SIGKILL}\n"


def test_signals_are_noted_and_end_a_wait() -> None:
    printed = run("""
with Signals() as signals:
    signals.check()
    os.kill(os.getpid(), signal.SIGTERM)
    signals.wait([], timeout_seconds=60)
    os.kill(os.getpid(), signal.SIGTERM)
    print(signals.stop_requested, signals.hurry_requested)
    os.kill(os.getpid(), signal.SIGINT)
    print(signals.hurry_requested)
    try:
        signals.check()
    except StopRequested:
        print("stop")
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
""")
    assert printed == "True False\nTrue\nstop\nTrue\n"


def test_a_first_interrupt_does_not_hurry() -> None:
    printed = run("""
with Signals() as signals:
    os.kill(os.getpid(), signal.SIGINT)
    print(signals.stop_requested, signals.hurry_requested)
""")
    assert printed == "True False\n"


def test_nohup_stays_in_force() -> None:
    printed = run("""
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with Signals() as signals:
    os.kill(os.getpid(), signal.SIGHUP)
    print(signals.stop_requested)
""")
    assert printed == "False\n"
