"""Nothing that a bench starts outlives it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from bench.machine import Cores
from bench.workshop import Process, scratch_folder

_BENCH = """
import sys, time
from pathlib import Path
from bench.machine import Cores
from bench.workshop import Process
cores = Cores.of_this_machine().gateway
print(Process(["sleep", "60"], cores=cores, log=Path(sys.argv[1])).pid, flush=True)
time.sleep(60)
"""


def test_a_process_runs_on_its_cores_and_is_stopped(tmp_path: Path) -> None:
    cores = Cores.of_this_machine().gateway
    process = Process(["sleep", "60"], cores=cores, log=tmp_path / "log")
    assert os.sched_getaffinity(process.pid) == cores
    process.stop()
    assert not psutil.pid_exists(process.pid)


def test_what_was_started_ends_with_a_bench_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _BENCH, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        started = psutil.Process(int(bench.stdout.readline()))
        bench.send_signal(signal.SIGKILL)
    psutil.wait_procs([started], timeout=20)
    assert not started.is_running()


def test_a_scratch_folder_is_gone_afterwards() -> None:
    with scratch_folder() as folder:
        (folder / "file").touch()
    assert not folder.exists()
