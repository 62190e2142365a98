from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import KNNImputer

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import Drop, GroupImpute, KnnImpute, Recipe, fit_recipe


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), n_neighbours=st.integers(1, 4))
def test_neighbours_agree_with_scikit_learn(seed: int, n_neighbours: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(25, 3))
    X[rng.random(X.shape) < 0.25] = np.nan
    X[0] = 1.0
    reference = KNNImputer(n_neighbors=n_neighbours).fit(X)
    frame = pl.DataFrame(X, schema=["a", "b", "c"]).fill_nan(None)
    step = KnnImpute(columns=("a", "b", "c"), n_neighbours=n_neighbours)
    fitted, _ = fit_recipe(Recipe((step,)), frame, None, seed=0)
    later = X[rng.permutation(25)] + 0.01
    # a row without any value has no neighbours: both take means, ours of the sample
    later = later[~np.isnan(later).all(axis=1)]

    found = fitted.transform(pl.DataFrame(later, schema=["a", "b", "c"]).fill_nan(None))

    np.testing.assert_allclose(found, reference.transform(later), rtol=1e-9)


def test_a_row_without_any_value_gets_the_means_of_the_sample() -> None:
    frame = pl.DataFrame({"a": [1.0, 2.0, None], "b": [4.0, 8.0, None]})

    _, found = fit_recipe(Recipe((KnnImpute(columns=("a", "b")),)), frame, None, seed=0)

    assert found[2].tolist() == [1.5, 6.0]


def test_no_more_rows_are_stored_than_asked_for() -> None:
    frame = pl.DataFrame({"a": np.arange(50.0), "b": np.arange(50.0)})
    step = KnnImpute(columns=("a", "b"), max_rows=20)

    fitted, _ = fit_recipe(Recipe((step,)), frame, None, seed=0)
    again, _ = fit_recipe(Recipe((step,)), frame, None, seed=0)

    stored: Any = fitted.steps[0]
    assert len(stored.sample) == 20
    assert again == fitted
    with pytest.raises(InvalidInputError, match="1 to 2,000 rows"):
        fit_recipe(Recipe((KnnImpute(columns=("a",), max_rows=2_001),)), frame, None, seed=0)


def test_gaps_get_the_median_of_their_group() -> None:
    frame = pl.DataFrame(
        {"x": [1.0, 2.0, 9.0, 50.0, None, None, None], "g": ["a", "a", "a", "b", "a", "b", "c"]}
    )
    steps = (GroupImpute(columns=("x",), by="g"),)
    fitted, found = fit_recipe(Recipe((*steps, Drop(columns=("g",)))), frame, None, seed=0)

    # a: median of 1, 2, 9; b: 50; c has no value: median of 1, 2, 9, 50
    assert found[4:, 0].tolist() == [2.0, 50.0, 5.5]
    later = pl.DataFrame({"x": [None, None], "g": ["never seen", None]}, schema=frame.schema)
    assert fitted.transform(later)[:, 0].tolist() == [5.5, 5.5]


def test_a_column_cannot_be_filled_by_its_own_levels() -> None:
    with pytest.raises(InvalidInputError, match="its own levels"):
        fit_recipe(
            Recipe((GroupImpute(columns=("x",), by="x"),)), pl.DataFrame({"x": [1.0]}), None, seed=0
        )
