from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.preprocessing import PowerTransformer

from loopwright.prepare import Power, Recipe, fit_recipe


@pytest.mark.parametrize("shape", ["lognormal", "normal", "exponential", "gumbel"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_likeliest_power_agrees_with_scikit_learn(shape: Any, sign: int) -> None:
    values = sign * getattr(np.random.default_rng(3), shape)(size=2_000)
    theirs = PowerTransformer()
    reference = theirs.fit_transform(values[:, None])

    fitted, found = fit_recipe(
        Recipe((Power(columns=("x",)),)), pl.DataFrame({"x": values}), None, seed=0
    )

    step: Any = fitted.steps[0]
    assert step.powers[0] == pytest.approx(theirs.lambdas_[0], abs=1e-4)
    np.testing.assert_allclose(found, reference, atol=1e-3)


def test_a_column_without_spread_becomes_zero() -> None:
    frame = pl.DataFrame({"x": [5.0, 5.0, None]})

    _, found = fit_recipe(Recipe((Power(columns=("x",)),)), frame, None, seed=0)

    assert found[:2, 0].tolist() == pytest.approx([0.0, 0.0])
    assert np.isnan(found[2, 0])
