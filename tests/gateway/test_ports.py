import os
import socket
import subprocess
import sys

import pytest

from gateway.ports import PortTaken, UnableToListen, bind_listener, parent_of, port_holder


def test_a_listener_accepts_before_anybody_serves() -> None:
    with (
        bind_listener("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        assert client.getpeername() == listener.getsockname()
        assert port_holder(listener.getsockname()[1]) == os.getpid()


def test_a_taken_port_names_its_holder() -> None:
    with bind_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTaken) as taken:
            bind_listener("127.0.0.1", port)
    assert taken.value.pid == os.getpid()
    assert f"port {port} on 127.0.0.1 is taken by process {os.getpid()}" in str(taken.value)
    bind_listener("127.0.0.1", port).close()


def test_a_family_that_shares_a_socket_is_named_by_its_head() -> None:
    with bind_listener("127.0.0.1", 0) as listener:
        descriptor = listener.fileno()
        with subprocess.Popen(
            [sys.executable, "-c", "print(flush=True); input()"],
            pass_fds=[descriptor],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            port = listener.getsockname()[1]
            assert port_holder(port) == os.getpid()
            listener.close()
            assert port_holder(port) == child.pid
            child.communicate(b"\n")
    assert port_holder(port) is None


def test_ipv6_is_seen_too() -> None:
    with bind_listener("::1", 0) as listener:
        port = listener.getsockname()[1]
        assert port_holder(port) == os.getpid()
        with pytest.raises(PortTaken):
            bind_listener("::1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "host.invalid", "300.1.1.1"])
def test_an_address_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(UnableToListen, match=host):
        bind_listener(host, 0)


def test_parents() -> None:
    assert parent_of(os.getpid()) == os.getppid()
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert parent_of(child.pid) is None  # A zombie lives no more.
    assert parent_of(2**22 + 1) is None
