"""Whether the categories of a data set are as often there as in a baseline: Pearson's chi-square test."""

from __future__ import annotations

import math
from collections.abc import Mapping

_FEWEST, _FEWEST_OF_TWO, _SHARE = 5, 10, 0.2


def p_value(sample: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    """Return how probable counts at least as unlike the baseline are by chance, 0 to 1.

    As deequ does it (`Distance.scala`, `ChisquareMethod`), which Model Monitor rests on: the counts
    of the baseline are scaled to those of the sample, and rare categories are put together until
    the test holds: of two categories none is expected less than ten times (Cochran 1952), of more
    at most a fifth less than five times (Yates, Moore and McCabe 1999). With fewer than two
    categories there is nothing to test, and nothing has drifted.

    Parameters
    ----------
    sample, baseline
        How often each category is there. A category that the baseline does not know is no part of
        the test: `categorical_values_check` finds it.

    Examples
    --------
    >>> round(p_value({"a": 40, "b": 60}, {"a": 50, "b": 50}), 4)
    0.0455
    """
    from scipy.stats import chi2

    known = {name: float(sample.get(name, 0)) for name in baseline}
    total, whole = sum(known.values()), float(sum(baseline.values()))
    if not total or not whole:
        return 1.0
    groups = [(baseline[name] / whole * total, count, name) for name, count in known.items()]
    found = _joined([(expected, count) for expected, count, _ in sorted(groups)])
    if len(found) < 2:
        return 1.0
    statistic = math.fsum((count - expected) ** 2 / expected for expected, count in found)
    return float(chi2.sf(statistic, len(found) - 1))


def _joined(groups: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return expected and counted numbers, the rarest put together as far as it must be."""
    while len(groups) >= 2:
        least = _FEWEST if len(groups) > 2 else _FEWEST_OF_TWO
        allowed = int(_SHARE * len(groups)) if len(groups) > 2 else 0
        if sum(expected < least for expected, _ in groups) <= allowed:
            break
        (one, first), (other, second), *rest = groups
        groups = sorted([(one + other, first + second), *rest])
    return [each for each in groups if each[0] > 0]
