import pytest

from relay.routing.circuits import Circuit, CircuitPolicy, State

POLICY = CircuitPolicy(first_pause_seconds=1.0, longest_pause_seconds=8.0)
HALF = 0.5  # The draw that makes a pause exactly as long as it is named.


def opened(now: float = 0.0) -> Circuit:
    circuit = Circuit(POLICY)
    for _ in range(3):
        assert circuit.state(now) is State.CLOSED
        circuit.failed(now, draw=HALF)
    assert circuit.state(now) is State.OPEN
    return circuit


def test_it_opens_after_failures_in_a_row_only() -> None:
    circuit = Circuit(POLICY)
    for _ in range(8):
        circuit.failed(0, draw=HALF)
        circuit.failed(0, draw=HALF)
        circuit.succeeded(0, began_at=0)
        circuit.succeeded(0, began_at=0)
        circuit.succeeded(0, began_at=0)
    assert circuit.state(0) is State.CLOSED
    opened()


def test_it_opens_when_half_of_a_windows_calls_fail() -> None:
    circuit = Circuit(POLICY)
    for number in range(19):
        circuit.failed(0, draw=HALF) if number % 2 else circuit.succeeded(0, began_at=0)
    assert circuit.state(0) is State.CLOSED
    circuit.failed(0, draw=HALF)
    assert circuit.state(0) is State.OPEN


def test_old_failures_are_forgotten_with_their_window() -> None:
    circuit = Circuit(POLICY)
    for number in range(19):
        circuit.failed(0, draw=HALF) if number % 2 else circuit.succeeded(0, began_at=0)
    circuit.failed(POLICY.window_seconds, draw=HALF)
    assert circuit.state(POLICY.window_seconds) is State.CLOSED


def test_one_call_tries_and_closes_it() -> None:
    circuit = opened()
    assert circuit.state(0.99) is State.OPEN
    assert circuit.state(1.0) is State.DUE
    assert circuit.began(1.0)
    assert not circuit.began(1.0)
    assert circuit.state(1.0) is State.PROBING
    circuit.gave_up()
    assert circuit.state(1.0) is State.DUE
    assert circuit.began(1.0)
    circuit.succeeded(1.1, began_at=1.0)
    assert circuit.state(1.1) is State.CLOSED


def test_a_call_from_before_the_trouble_does_not_close_it() -> None:
    circuit = opened(5.0)
    circuit.succeeded(5.5, began_at=4.0)
    assert circuit.state(5.5) is State.OPEN


def test_its_pauses_double_up_to_a_bound() -> None:
    circuit, now = opened(), 0.0
    for pause in (1.0, 2.0, 4.0, 8.0, 8.0):
        assert circuit.state(now + pause - 0.01) is State.OPEN
        now += pause
        assert circuit.began(now)
        circuit.failed(now, draw=HALF)


def test_on_trial_one_failure_is_enough_and_then_it_is_as_good_as_new() -> None:
    circuit = opened()
    circuit.succeeded(1.0, began_at=1.0)
    circuit.failed(2.0, draw=HALF)
    assert (circuit.state(3.9), circuit.state(4.0)) == (State.OPEN, State.DUE)
    circuit.succeeded(4.0, began_at=4.0)
    for _ in range(POLICY.trial_calls):
        assert not circuit.is_forgettable(100)
        circuit.succeeded(5.0, began_at=5.0)
    assert not circuit.is_forgettable(5.0)
    assert circuit.is_forgettable(100)
    circuit.failed(6.0, draw=HALF)
    assert circuit.state(6.0) is State.CLOSED


def test_calls_that_fail_together_count_once() -> None:
    circuit = opened()
    for _ in range(100):
        circuit.failed(0.5, draw=HALF)
    assert circuit.state(1.0) is State.DUE


@pytest.mark.parametrize("draw", [0.0, 0.999])
def test_upstreams_own_word_is_obeyed(draw: float) -> None:
    circuit = Circuit(POLICY)
    circuit.failed(0, draw=draw, retry_after=20)
    assert circuit.state(19.9) is State.OBEYED
    assert circuit.state(20.0) in {State.OPEN, State.DUE}
    assert circuit.state(22.0) is State.DUE
    assert circuit.state(POLICY.longest_obeyed_seconds) is State.DUE


def test_upstreams_word_is_not_for_ever() -> None:
    circuit = Circuit(POLICY)
    circuit.failed(0, draw=0, retry_after=1e9)
    assert circuit.state(POLICY.longest_obeyed_seconds) is State.DUE


def test_chance_spreads_the_pauses() -> None:
    ends = []
    for draw in (0.0, 0.25, 0.75, 0.999):
        circuit = Circuit(POLICY)
        for _ in range(3):
            circuit.failed(0, draw=draw)
        ends.append(next(t for t in range(2000) if circuit.state(t / 1000) is State.DUE))
    assert ends == sorted(set(ends))
    assert (ends[0], ends[-1]) == (750, 1250)
