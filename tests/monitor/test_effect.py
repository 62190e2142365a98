"""Effect sizes from counts, against trusted libraries and their noise."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, mannwhitneyu

from loopwright.monitor import bin_counts, measured_effect
from loopwright.monitor.reference import build_stream


def test_effects_of_a_small_column_are_as_by_hand() -> None:
    # reference 1 2 3 4, live 3 4 4 5: wins of 16 pairs = 2.5 + 3.5 + 3.5 + 4 = 13.5
    stream = build_stream("a", pl.Series([1, 2, 3, 4]), role="prediction", kind="number")

    effect = measured_effect(stream, bin_counts(stream, [3, 4, 4, 5, None]))

    assert effect.size == pytest.approx(13.5 / 16 - 0.5)
    assert effect.distance == pytest.approx(0.5)
    assert effect.noise_floor == pytest.approx(0.87 * (1 / 4 + 1 / 4) ** 0.5)
    assert (effect.missing_share, effect.novel_share) == (0.2, 0.25)
    assert effect.reference_mean == 2.5
    assert effect.mean == 3.75  # the value above the range counts as the largest, 4


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=2, max_size=60),
    st.lists(st.integers(-5, 25), min_size=1, max_size=60),
)
def test_with_few_distinct_values_ks_and_superiority_are_exact(
    before: list[int], live: list[int]
) -> None:
    inside = [min(max(value, min(before)), max(before)) for value in live]
    stream = build_stream("a", pl.Series(before), role="input", kind="number")
    # a live value between two reference values shares the bin of the upper one
    inside = [min(value for value in before if value >= one) for one in inside]

    effect = measured_effect(stream, bin_counts(stream, inside))

    assert effect.distance == pytest.approx(ks_2samp(inside, before, method="asymp").statistic)
    u = mannwhitneyu(inside, before).statistic if len(set(inside + before)) > 1 else None
    if u is not None:
        assert effect.size == pytest.approx(u / (len(inside) * len(before)) - 0.5)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5, 2.0])
def test_ks_of_thirty_two_bins_is_near_and_never_above_the_exact_one(shift: float) -> None:
    rng = np.random.default_rng(3)
    before, live = rng.normal(size=8_000), rng.normal(loc=shift, size=2_000)
    stream = build_stream("a", pl.Series(before), role="input", kind="number")

    binned = measured_effect(stream, bin_counts(stream, live)).distance

    exact = ks_2samp(live, before, method="asymp").statistic
    assert exact - 0.02 <= binned <= exact + 1e-12


@pytest.mark.parametrize("kind", ["number", "category"])
def test_distances_of_unchanged_rows_average_about_their_noise_floor(kind: str) -> None:
    rng = np.random.default_rng(5)
    draw = rng.normal if kind == "number" else lambda size: rng.integers(0, 25, size)
    ratios = []
    for _ in range(60):
        stream = build_stream("a", pl.Series(draw(size=3_000)), role="input", kind=kind)  # type: ignore[arg-type]
        ratios.append(measured_effect(stream, bin_counts(stream, draw(size=250))).floor_ratio)

    assert 0.8 < np.mean(ratios) < 1.15  # bins make a KS distance a little smaller


def test_a_category_that_grows_is_named() -> None:
    stream = build_stream("c", pl.Series(["a"] * 50 + ["b"] * 50), role="input", kind="category")

    effect = measured_effect(stream, bin_counts(stream, ["a"] * 20 + ["b"] * 80))

    assert (effect.measure, round(effect.size, 6)) == ("total_variation", 0.3)
    assert effect.largest_move in ("a", "b")


def test_no_live_rows_have_no_effect() -> None:
    stream = build_stream("c", pl.Series([1, 2, 3]), role="input", kind="number")

    effect = measured_effect(stream, [0] * stream.n_bins)

    assert (effect.n_rows, effect.distance, effect.floor_ratio) == (0, 0.0, 0.0)
