"""Rounds become figures."""

import pytest

from bench.figures import Figure, ratio


def test_a_figure_is_the_median_with_its_extremes() -> None:
    figure = Figure.of([30.0, 10.0, 11.0])
    assert (figure.median, figure.least, figure.most, figure.rounds) == (11.0, 10.0, 30.0, 3)
    assert figure.spread == pytest.approx(20 / 11)


def test_of_an_even_number_the_middle_two_are_averaged() -> None:
    assert Figure.of([1.0, 2.0, 4.0, 100.0]).median == 3.0


def test_nothing_is_no_figure() -> None:
    with pytest.raises(AssertionError):
        Figure.of([])


def test_a_ratio_is_taken_round_by_round() -> None:
    """The second round met a slow machine, which slowed both: the ratio is what it was."""
    found = ratio([50.0, 100.0, 60.0], [10.0, 20.0, 10.0])
    assert (found.median, found.least, found.most) == (5.0, 5.0, 6.0)


def test_rounds_that_measured_nothing_of_the_other_are_left_out() -> None:
    assert ratio([50.0, 100.0], [0.0, 20.0]).median == 5.0


def test_rounds_of_different_number_are_refused() -> None:
    with pytest.raises(AssertionError):
        ratio([1.0], [1.0, 2.0])
