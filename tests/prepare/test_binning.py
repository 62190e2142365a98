from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.preprocessing import KBinsDiscretizer

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import Bin, Recipe, fit_recipe

FRAME = pl.DataFrame({"x": np.random.default_rng(0).normal(size=500)})


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
def test_bins_agree_with_scikit_learn(strategy: Any) -> None:
    how = {"quantile_method": "linear"} if strategy == "quantile" else {}
    theirs = KBinsDiscretizer(7, encode="ordinal", strategy=strategy, **how)
    reference = theirs.fit_transform(FRAME.to_numpy())
    step = Bin(columns=("x",), n_bins=7, strategy=strategy)

    _, found = fit_recipe(Recipe((step,)), FRAME, None, seed=0)

    np.testing.assert_array_equal(found, reference)


def test_an_edge_belongs_to_the_upper_bin_and_the_outer_bins_are_open() -> None:
    step = Bin(columns=("x",), n_bins=2, strategy="uniform")
    fitted, _ = fit_recipe(Recipe((step,)), pl.DataFrame({"x": [0.0, 10.0]}), None, seed=0)

    found = fitted.transform(pl.DataFrame({"x": [-99.0, 4.9, 5.0, 99.0, None]}))

    assert found[:4, 0].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert np.isnan(found[4, 0])


def test_one_bin_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="2 to 1,000"):
        fit_recipe(Recipe((Bin(columns=("x",), n_bins=1),)), FRAME, None, seed=0)
