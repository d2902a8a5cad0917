import pytest

from relay.reconciliation.figures import NOTHING, Figures, drifts, named_alike

HALF_A_PERCENT = 5_000


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (Figures(requests=1000), Figures(requests=1005), []),
        (Figures(requests=1000), Figures(requests=1006), ["requests"]),
        (Figures(requests=10), Figures(requests=12), []),  # Around midnight.
        (Figures(requests=10), Figures(requests=13), ["requests"]),
        (Figures(input_tokens=100_000), Figures(input_tokens=99_499), []),
        (Figures(input_tokens=100_000), Figures(input_tokens=98_999), ["input_tokens"]),
        (Figures(output_tokens=5_000), Figures(), []),
        (Figures(output_tokens=5_000), NOTHING, ["output_tokens"]),
        (Figures(cost_nano_usd=10**9), Figures(cost_nano_usd=-(10**9)), ["cost_nano_usd"]),
        (NOTHING, NOTHING, []),
    ],
)
def test_what_is_too_far_apart(ours: Figures, theirs: Figures, found: list[str]) -> None:
    assert drifts(ours, theirs, threshold_ppm=HALF_A_PERCENT) == found


def test_snapshots_count_as_the_model_that_was_asked_for() -> None:
    theirs = {
        "gpt-4o-2024-08-06": Figures(requests=1),
        "gpt-4o-2024-11-20": Figures(requests=2),
        "gpt-4o": Figures(requests=4),
        "gpt-3.5-turbo-0125": Figures(requests=8),
        "o3-2025-04-16": Figures(requests=16),
    }
    known = ["gpt-4o", "gpt-4o-2024-11-20", "gpt-3.5-turbo"]
    assert named_alike(theirs, known) == {
        "gpt-4o": Figures(requests=5),
        "gpt-4o-2024-11-20": Figures(requests=2),
        "gpt-3.5-turbo": Figures(requests=8),
        "o3-2025-04-16": Figures(requests=16),
    }
