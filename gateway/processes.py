"""Child processes of the supervisor, forked so that they need not import everything again."""

import ctypes
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection

_PR_SET_PDEATHSIG = 1
_FIRST_DESCRIPTOR = 3
_LAST_DESCRIPTOR = 2**31 - 1
_FAILURE = 1


def fork_child(body: Callable[[], None], *, keep: Collection[int]) -> int:
    """Run the body in a child that inherits, beyond the standard three, only these descriptors.

    What else is open stays with us alone: locks above all, which a child that outlives us must not
    keep. The child gets a SIGTERM when we die, ignores Ctrl-C and a closed terminal (the supervisor
    tells it what to do) and exits with 0 if the body returns.
    """
    assert threading.active_count() == 1, "a thread's locks would stay locked in the child"
    sys.stdout.flush()
    sys.stderr.flush()
    # Until its handlers are its own, a signal for the child would be noted in our name.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os._exit(_run(body, parent=parent, keep=keep, mask=blocked))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pid


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a child that may just have ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _run(
    body: Callable[[], None], *, parent: int, keep: Collection[int], mask: set[int | signal.Signals]
) -> int:
    try:
        _become_child(parent=parent, keep=keep, mask=mask)
        body()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else _FAILURE
    except BaseException:  # noqa: BLE001 - nothing above us may run in the child.
        traceback.print_exc()
        return _FAILURE
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _become_child(*, parent: int, keep: Collection[int], mask: set[int | signal.Signals]) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    # A group of its own: who signals the supervisor's whole group does not end calls early.
    os.setpgid(0, 0)
    _close_all_but(keep)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    _die_with(parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _close_all_but(keep: Collection[int]) -> None:
    first = _FIRST_DESCRIPTOR
    for descriptor in sorted(keep):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, _LAST_DESCRIPTOR)


def _die_with(parent: int) -> None:
    """Be told by the kernel when the supervisor dies, however it dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit(_FAILURE)  # It died before we asked.
