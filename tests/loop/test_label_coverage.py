from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from loopwright.loop.label_coverage import told_difference

RNG = np.random.default_rng(3)


def test_labels_of_those_with_a_high_score_only_do_not_speak_for_the_others() -> None:
    scores = RNG.random(2_000)

    told = told_difference(scores[scores > 0.5], scores[scores <= 0.5])

    assert told.startswith("only 5")
    assert "predicted higher than the others (100% of pairs)" in told


def test_a_random_part_of_the_labels_speaks_for_all() -> None:
    for seed in range(50):
        scores = np.random.default_rng(seed).random(1_000)
        assert told_difference(scores[:300], scores[300:]) == ""


@pytest.mark.parametrize(("n", "m"), [(50, 900), (900, 50), (900, 150)])
def test_few_rows_and_few_without_a_label_are_not_asked_about(n: int, m: int) -> None:
    assert told_difference(RNG.random(n) + 1, RNG.random(m)) == ""


def test_the_share_of_pairs_is_mann_and_whitneys_with_ties() -> None:
    labelled, others = RNG.integers(2, 9, 400) / 10, RNG.integers(0, 7, 600) / 10

    told = told_difference(labelled, others)

    wanted = mannwhitneyu(labelled, others).statistic / (400 * 600)
    assert f"({wanted:.0%} of pairs)" in told


def test_the_same_score_everywhere_tells_nothing_apart() -> None:
    assert told_difference(np.full(300, 0.2), np.full(300, 0.2)) == ""
