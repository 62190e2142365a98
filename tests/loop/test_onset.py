"""Since when a model errs more is found among the predictions, or nothing is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from loopwright.loop.onset import onset

START = datetime(2026, 1, 1, tzinfo=UTC)


def hours(n: int) -> pl.Series:
    return pl.Series([START + timedelta(hours=k) for k in range(n)], dtype=pl.Datetime("us", "UTC"))


@pytest.mark.parametrize("seed", range(5))
def test_the_first_prediction_that_errs_more_is_found_whatever_the_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses = np.concatenate([rng.exponential(0.35, 2_000), rng.exponential(0.75, 400)])
    order = rng.permutation(2_400)

    found = onset(hours(2_400).gather(order), losses[order])

    assert found is not None
    assert abs(found - (START + timedelta(hours=2_000))) < timedelta(hours=120)


def test_losses_without_a_rise_have_no_beginning_of_one() -> None:
    rng = np.random.default_rng(1)
    found = [onset(hours(1_000), rng.exponential(0.35, 1_000)) for _ in range(200)]
    fell = np.concatenate([rng.exponential(0.75, 500), rng.exponential(0.35, 500)])

    assert found.count(None) >= 199
    assert onset(hours(1_000), fell) is None


def test_constant_few_and_infinite_losses_say_nothing() -> None:
    assert onset(hours(300), np.zeros(300)) is None
    assert onset(hours(99), np.arange(99.0)) is None
    assert onset(hours(120), np.full(120, np.inf)) is None
