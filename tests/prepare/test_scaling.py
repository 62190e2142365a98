from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import Clip, Impute, Log1p, Recipe, Scale, fit_recipe


def fitted_on(step: Any, frame: pl.DataFrame) -> Any:
    return fit_recipe(Recipe((step,)), frame, None, seed=0)


def frame_of(values: list[float | None]) -> pl.DataFrame:
    return pl.DataFrame({"x": values}, schema={"x": pl.Float64})


_GAPPY = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=2, max_size=30).filter(
    lambda values: any(value is not None for value in values)
)


@settings(max_examples=40, deadline=None)
@given(values=_GAPPY)
def test_scaling_agrees_with_scikit_learn(values: list[float | None]) -> None:
    frame = frame_of(values)
    reference = StandardScaler().fit_transform(frame.to_numpy())

    _, found = fitted_on(Scale(columns=("x",)), frame)

    # a spread that is nearly rounding only is where the two may differ
    spread = np.nanstd(frame.to_numpy())
    if spread > 1e-6 * np.nanmax(np.abs(frame.to_numpy())):
        np.testing.assert_allclose(found, reference, rtol=1e-9, atol=1e-9)


def test_the_operation_order_of_scaling_is_subtract_then_divide() -> None:
    values = np.random.default_rng(0).normal(size=500) * 1e3
    fitted, found = fitted_on(Scale(columns=("x",)), pl.DataFrame({"x": values}))
    step = fitted.steps[0]

    expected = (values - step.means[0]) / step.scales[0]

    assert (found[:, 0] == expected).all()


def test_a_constant_column_is_only_centred() -> None:
    _, found = fitted_on(Scale(columns=("x",)), frame_of([5.1, 5.1, 5.1]))

    assert np.allclose(found, 0.0, atol=1e-12)


def test_long_tails_are_shortened_on_both_sides() -> None:
    frame = frame_of([0.0, 3.0, -3.0, None])

    _, found = fitted_on(Log1p(columns=("x",)), frame)

    assert found[:3, 0].tolist() == [0.0, np.log(4.0), -np.log(4.0)]
    assert np.isnan(found[3, 0])


def test_extremes_are_moved_onto_the_quantiles_of_training() -> None:
    # the quantiles 0.1 and 0.9 of 0..10 are 1 and 9
    fitted, _ = fitted_on(Clip(columns=("x",), tail=0.1), frame_of([float(i) for i in range(11)]))

    found = fitted.transform(frame_of([-100.0, 5.0, 100.0, None]))

    assert found[:3, 0].tolist() == [1.0, 5.0, 9.0]
    assert np.isnan(found[3, 0])


def test_a_tail_of_half_the_rows_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"0\.5"):
        fitted_on(Clip(columns=("x",), tail=0.5), frame_of([1.0]))


@pytest.mark.parametrize("step", [Scale, Log1p, Clip, Impute])
def test_text_is_refused_by_name(step: Any) -> None:
    with pytest.raises(InvalidInputError, match="'s', which holds text") as caught:
        fitted_on(step(columns=("s",)), pl.DataFrame({"s": ["a", "b"]}))

    assert caught.value.facts["field"] == "s"


def test_zeros_and_ones_that_steps_made_are_not_scaled() -> None:
    frame = pl.DataFrame({"a": [1.0, None, 4.0], "flag": [0, 1, 1]})

    fitted, found = fit_recipe(Recipe((Impute(), Scale())), frame, None, seed=0)

    assert found[:, fitted.feature_names.index("a_missing")].tolist() == [0.0, 1.0, 0.0]
    assert abs(found[:, fitted.feature_names.index("flag")].mean()) < 1e-12
