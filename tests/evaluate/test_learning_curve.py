"""A learning curve finds the law it was drawn from, and how many rows a target needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.evaluate.learning_curve import LearningCurve, curve_sizes, learning_curve

SIZES = [50, 100, 200, 400, 800]


def curve(a: float, b: float, c: float, *, noise: float = 0.0, up: bool = False) -> LearningCurve:
    rng = np.random.default_rng(3)

    def measured(size: int, repeat: int) -> float:
        del repeat
        error = a + b * size**-c + noise * rng.normal()
        return 1 - error if up else error

    found = learning_curve(
        measured, sizes=SIZES, n_repeats=5, metric="m", higher_is_better=up, best=float(up)
    )
    assert found is not None
    return found


def test_a_law_without_noise_is_found_again() -> None:
    found = curve(0.10, 2.0, 0.5)

    # 0.10 + 2 / sqrt(n) = 0.15 at n = (2 / 0.05)^2 = 1600
    needed = found.needed(0.15)
    assert found.rate == 0.5
    assert found.plateau == pytest.approx(0.10, abs=0.003)
    assert needed.n_rows == pytest.approx(1_600, rel=0.05)
    assert needed.low is not None
    assert needed.high is not None
    assert needed.low <= needed.n_rows <= needed.high


@settings(max_examples=20, deadline=None)
@given(c=st.sampled_from([0.3, 0.5, 0.8]), a=st.floats(0.05, 0.2), up=st.booleans())
def test_either_way_up_the_same_rows_are_needed(c: float, a: float, up: bool) -> None:
    goal = a + 0.5 * 800**-c
    target = 1 - goal if up else goal

    needed = curve(a, 1.0, c, up=up).needed(target)

    # 1.0 n^-c = 0.5 * 800^-c: n = 800 * 2^(1/c), if that is within reach
    expected = 800 * 2 ** (1 / c)
    assert needed.n_rows == pytest.approx(expected, rel=0.15)


def test_a_target_beyond_the_plateau_is_never_reached() -> None:
    needed = curve(0.10, 2.0, 0.5).needed(0.08)

    assert needed.n_rows is None
    assert needed.chance < 0.1


def test_noise_widens_what_is_said() -> None:
    exact, noisy = curve(0.1, 2.0, 0.5), curve(0.1, 2.0, 0.5, noise=0.02)

    assert noisy.plateau_high - noisy.plateau_low > 3 * (exact.plateau_high - exact.plateau_low)
    assert all(point.lower <= point.upper for point in noisy.points)


def test_no_curve_foretells_better_than_perfect_answers() -> None:
    found = curve(0.0, 1.0, 0.3, noise=0.05)

    assert found.plateau_low >= 0


def test_too_few_sizes_make_no_curve() -> None:
    assert (
        learning_curve(
            lambda size, _: float("nan") if size < 400 else 1.0,
            sizes=SIZES,
            n_repeats=3,
            metric="m",
            higher_is_better=False,
        )
        is None
    )


def test_sizes_double_up_to_all_rows() -> None:
    assert curve_sizes(800) == SIZES
    assert curve_sizes(40) == [20, 40]
