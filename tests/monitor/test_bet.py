"""Bets never gain on average while nothing has changed."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from loopwright.monitor import Reference, StreamReference
from loopwright.monitor.bet import bet_table, wilson_bounds
from loopwright.monitor.reference import build_stream


def shares(stream: StreamReference) -> np.ndarray:
    return np.array(stream.counts) / stream.n_rows


def test_every_factor_loses_on_the_reference_itself(reference: Reference) -> None:
    means = np.concatenate(
        [np.exp(bet_table(each, 0.02).log_factors) @ shares(each) for each in reference.streams]
    )

    assert len(means) > 100
    assert (means < 1).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 0.2), st.sampled_from(["a", "c", "error"]))
def test_a_factor_gains_only_where_the_change_exceeds_the_tolerance(
    seed: int, tolerance: float, which: str
) -> None:
    rng = np.random.default_rng(seed)
    streams = {
        "a": build_stream("a", pl.Series(range(8)), role="input", kind="number"),
        "c": build_stream("c", pl.Series(list("aabbcd")), role="input", kind="category"),
        "error": build_stream("e", pl.Series([0.0, 0.1, 0.5, 2.0]), role="error", kind="number"),
    }
    stream = streams[which]
    live = rng.dirichlet(np.ones(stream.n_bins) * 0.5)
    table = bet_table(stream, tolerance)

    means = np.exp(table.log_factors) @ live

    # the factor is 1 + stake * (gain - allowance): its mean passes 1 where the mean gain passes
    # the allowance, at every stake alike
    by_bet = means.reshape(-1, 3)
    assert ((by_bet > 1).all(axis=1) | (by_bet <= 1 + 1e-12).all(axis=1)).all()
    assert (table.log_factors > np.log(0.09)).all()
    assert table.weights.sum() == pytest.approx(1)


def test_a_smaller_reference_is_allowed_for_by_more_slack(
    reference: Reference, small_reference: Reference
) -> None:
    large, small = reference.streams[0], small_reference.streams[0]

    losses_large = np.exp(bet_table(large, 0.0).log_factors) @ shares(large)
    losses_small = np.exp(bet_table(small, 0.0).log_factors) @ shares(small)

    # the mean loss per unit of stake is the slack, 3 sd / sqrt(N): 6,000 rows against 1,000
    ratio = (1 - losses_small[:12]) / (1 - losses_large[:12])
    assert ratio == pytest.approx(6**0.5, rel=0.05)


def test_dates_are_watched_for_missing_values_only(reference: Reference) -> None:
    sold = next(stream for stream in reference.streams if stream.name == "sold")

    assert set(bet_table(sold, 0.02).names) == {"missing"}


def test_errors_are_watched_for_growth_only(reference: Reference) -> None:
    error = reference.find("error")
    assert error is not None

    assert set(bet_table(error, 0.02).names) == {"up", "mean up"}


def test_wilson_bounds_solve_the_score_equation() -> None:
    lower, upper = wilson_bounds(0.13, 200, sigmas=2.5)

    for bound in (lower, upper):
        assert abs(0.13 - bound) / (bound * (1 - bound) / 200) ** 0.5 == pytest.approx(2.5)


def test_wilson_bounds_of_no_case_leave_room_for_one() -> None:
    lower, upper = wilson_bounds(0.0, 1_000, sigmas=3.0)

    assert lower == 0.0
    # a true share at the bound would show no case in 1,000 rows about as rarely as 3 sigmas
    assert 1e-4 < (1 - upper) ** 1_000 < norm.sf(2.5)
