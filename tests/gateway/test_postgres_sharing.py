"""Who may use the embedded PostgreSQL, who ends it, and what their own end does to it."""

import os
import signal

from gateway.data_directory import DataDirectory
from gateway.postgres import (
    EmbeddedPostgres,
    running_server,
)
from tests.gateway.children import Child
from tests.gateway.databases import START, ask, is_gone

# A program that uses a server as a command does.
USE = """
with EmbeddedPostgres(DataDirectory(sys.argv[1])).for_command() as url:
    with psycopg.connect(url) as connection:
        print(*connection.execute("SELECT value FROM kept").fetchone(), flush=True)
    sys.stdin.readline()
"""


def test_a_server_whose_supervisor_was_killed_is_adopted(directory: DataDirectory) -> None:
    with Child(START + "sys.stdin.read()", directory.path) as supervisor:
        pid = int(supervisor.read())
        supervisor.kill()
    with EmbeddedPostgres(directory).for_command() as url:
        value = ask(url, "SELECT value FROM kept")
    after_command = running_server(directory)
    embedded = EmbeddedPostgres(directory)
    embedded.start()
    adopted = embedded.pid
    embedded.stop()

    assert value == [("from before",)]
    assert after_command == pid, "a command stops only what a command started"
    assert adopted == pid
    assert is_gone(directory)


def test_ctrl_c_does_not_reach_the_server(directory: DataDirectory) -> None:
    code = """
embedded = EmbeddedPostgres(DataDirectory(sys.argv[1]))
embedded.start()
try:
    print(embedded.pid, flush=True)
    sys.stdin.readline()
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.readline()
embedded.stop()
"""
    with Child(code, directory.path) as supervisor:
        pid = int(supervisor.read())
        session = os.getsid(pid)
        os.killpg(supervisor.pid, signal.SIGINT)
        interrupted = supervisor.read()
        value = ask(EmbeddedPostgres(directory).database_url, "SELECT value FROM kept")
        still = running_server(directory)
        supervisor.say()
        status = supervisor.finish()

    assert interrupted == "interrupted"
    assert (session, still) == (pid, pid)
    assert value == [("from before",)]
    assert status == 0
    assert is_gone(directory)


def test_an_interrupted_command_stops_the_server_that_it_started(directory: DataDirectory) -> None:
    with Child(USE, directory.path) as command:
        command.read()
        os.killpg(command.pid, signal.SIGINT)
        status = command.finish()

    assert status == -signal.SIGINT
    assert is_gone(directory)


def test_commands_that_start_at_once_share_a_server_and_the_last_one_stops_it(
    directory: DataDirectory,
) -> None:
    with (
        Child(USE, directory.path) as first,
        Child(USE, directory.path) as second,
        Child(USE, directory.path) as third,
    ):
        commands = (first, second, third)
        values = {command.read() for command in commands}
        pids = []
        for command in commands:
            pids.append(running_server(directory))
            command.say()
            assert command.finish() == 0

    assert values == {"from before"}
    assert len(set(pids)) == 1
    assert pids[0] is not None
    assert is_gone(directory)


def test_commands_without_a_pause_never_miss_the_server(directory: DataDirectory) -> None:
    code = """
for _ in range(6):
    with EmbeddedPostgres(DataDirectory(sys.argv[1])).for_command() as url:
        psycopg.connect(url).close()
print("all", flush=True)
"""
    with (
        Child(code, directory.path) as first,
        Child(code, directory.path) as second,
        Child(code, directory.path) as third,
    ):
        answers = [command.read() for command in (first, second, third)]

    assert answers == ["all"] * 3
    assert is_gone(directory)


def test_a_command_leaves_the_supervisors_server_alone(directory: DataDirectory) -> None:
    embedded = EmbeddedPostgres(directory)
    with embedded.for_command():
        started_by_command = embedded.pid
        embedded.start()
    after_command = running_server(directory)
    with embedded.for_command() as url:
        embedded.stop()
        value = ask(url, "SELECT value FROM kept")

    assert after_command == started_by_command
    assert value == [("from before",)], "the supervisor left it to the command that used it"
    assert is_gone(directory)
