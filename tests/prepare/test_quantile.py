from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import QuantileTransformer, RobustScaler

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import QuantileScale, Recipe, RobustScale, fit_recipe

VALUES = st.lists(st.none() | st.sampled_from([0.0, 1.0, 2.0]) | st.floats(-1e6, 1e6), min_size=4)


def frame_of(values: Any) -> pl.DataFrame:
    return pl.DataFrame({"x": values}, schema={"x": pl.Float64})


@settings(max_examples=40, deadline=None)
@given(values=VALUES.filter(lambda values: any(v is not None for v in values)))
def test_robust_scaling_agrees_with_scikit_learn(values: list[float | None]) -> None:
    frame = frame_of(values)
    theirs = RobustScaler().fit(frame.to_numpy())
    reference = theirs.transform(frame.to_numpy())

    _, found = fit_recipe(Recipe((RobustScale(columns=("x",)),)), frame, None, seed=0)

    # what scikit-learn takes for no spread depends on the unit, what we take does not
    if (
        np.quantile(frame["x"].drop_nulls(), 0.75) - np.quantile(frame["x"].drop_nulls(), 0.25)
        > 1e-6
    ):
        np.testing.assert_allclose(found, reference, rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    values=VALUES.filter(lambda values: sum(v is not None for v in values) > 3),
    later=st.lists(st.floats(-2e6, 2e6), min_size=1),
)
def test_uniform_quantiles_agree_with_scikit_learn(
    values: list[float | None], later: list[float]
) -> None:
    frame = frame_of(values)
    n = min(7, sum(v is not None for v in values))
    theirs = QuantileTransformer(n_quantiles=n).fit(frame.to_numpy())
    # their quantiles are of 100 times a share, and rounding can part equal values
    known = frame["x"].drop_nulls().to_numpy()
    theirs.quantiles_ = np.quantile(known, theirs.references_)[:, None]
    step = QuantileScale(columns=("x",), n_quantiles=7)
    # scikit-learn takes what lies within 1e-7 of an end for the end
    ends = theirs.quantiles_[[0, -1], 0]
    later = [x for x in [*later, *values] if x is not None and np.abs(x - ends).min() > 1e-6]

    fitted, _ = fit_recipe(Recipe((step,)), frame, None, seed=0)

    if len(later):
        reference = theirs.transform(np.array(later)[:, None])
        np.testing.assert_allclose(fitted.transform(frame_of(later)), reference, atol=1e-9)


def test_normal_quantiles_agree_with_scikit_learn_up_to_the_straight_lines() -> None:
    values = np.random.default_rng(0).lognormal(size=5_000)
    frame = frame_of(values)
    theirs = QuantileTransformer(n_quantiles=500, output_distribution="normal", subsample=None)
    reference = theirs.fit_transform(frame.to_numpy())
    step = QuantileScale(columns=("x",), n_quantiles=500, output="normal")

    _, found = fit_recipe(Recipe((step,)), frame, None, seed=0)

    inside = (np.abs(reference) < 2.5)[:, 0]
    assert np.abs(found - reference)[inside].max() < 0.01
    assert (np.argsort(found[:, 0], kind="stable") == np.argsort(values, kind="stable")).all()


def test_values_beyond_those_of_training_are_at_the_ends() -> None:
    step = QuantileScale(columns=("x",))

    fitted, _ = fit_recipe(Recipe((step,)), frame_of([1.0, 2.0, 3.0]), None, seed=0)

    # the quantiles 1, 2, 3 have the shares 0, 1/2, 1; 2.5 lies half way
    found = fitted.transform(frame_of([-9.0, 1.0, 2.0, 2.5, 3.0, 9.0, None]))
    assert found[:-1, 0].tolist() == [0.0, 0.0, 0.5, 0.75, 1.0, 1.0]
    assert np.isnan(found[-1, 0])


def test_fewer_than_two_quantiles_are_refused() -> None:
    step = QuantileScale(columns=("x",), n_quantiles=1)

    with pytest.raises(InvalidInputError, match="n_quantiles is 1"):
        fit_recipe(Recipe((step,)), frame_of([1.0]), None, seed=0)
