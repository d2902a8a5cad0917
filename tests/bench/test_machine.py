"""What is read of the kernel."""

import os
import subprocess
import sys

from bench.machine import Cores, cpu_seconds, description, family, memory_kilobytes, parse_stat

_STAT = "42 (a ) (name) S 7 42 42 0 -1 4194304 900 0 0 0 11 22 33 44 20 0 1 0 1000 10 20"


def test_a_process_name_may_hold_what_separates() -> None:
    assert parse_stat(_STAT) == (7, 11 + 22 + 33 + 44)


def test_work_shows_as_cpu_time() -> None:
    before = cpu_seconds([os.getpid()])
    while cpu_seconds([os.getpid()]) < before + 0.02:
        pass  # That this ends is the test.


def test_a_process_that_has_ended_counts_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert cpu_seconds([child.pid]) == 0


def test_a_family_is_a_process_and_all_below_it() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(input())'])"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        while len(members := family(child.pid)) < 2:
            pass
        assert members[0] == child.pid
        assert set(members) <= set(family(os.getpid()))
        child.stdin.close()


def test_memory_is_that_of_the_processes() -> None:
    assert 1_000 < memory_kilobytes([os.getpid()]) < 10_000_000


def test_workers_never_have_all_cores() -> None:
    cores = Cores(gateway=frozenset({0}), load=frozenset({1, 2, 3}))
    assert cores.wider(2) == Cores(gateway=frozenset({0, 1}), load=frozenset({2, 3}))
    assert cores.wider(4) == Cores(gateway=frozenset({0, 1, 2}), load=frozenset({3}))


def test_one_core_is_shared() -> None:
    alone = Cores(gateway=frozenset({0}), load=frozenset({0}))
    assert alone.wider(2) == alone


def test_a_machine_is_described_without_its_name() -> None:
    told = description()
    assert str(told["kernel"]).replace(".", "").isdigit()
    assert os.uname().nodename not in told.values()
