"""Times in classes that grow by a seventh, so that percentiles of many hours can be told. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping

GROWTH = 1.15


def added(histograms: Iterable[Mapping[str, int]]) -> Counter[int]:
    """The sum of histograms as they are stored: class -> how many."""
    total: Counter[int] = Counter()
    for histogram in histograms:
        for number, count in histogram.items():
            total[int(number)] += count
    return total


def percentile(histogram: Mapping[int, int], share: float) -> int | None:
    """The milliseconds that this share of the times does not exceed; None if there are none.

    It is off by 7 % at most: by half a class.
    """
    total = sum(histogram.values())
    if not total:
        return None
    left = share * total
    for number in sorted(histogram):
        left -= histogram[number]
        if left <= 0:
            return _middle(number)
    return _middle(max(histogram))


def _middle(number: int) -> int:
    """Class n holds the times whose number plus 1 is from GROWTH**n up to the next class."""
    return round(float(GROWTH ** (number + 0.5)) - 1)
