from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.feature_selection import mutual_info_regression

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import DropCorrelated, DropPersonal, Recipe, Scale, SelectBest, fit_recipe
from loopwright.prepare.selection import correlations, mutual_information

RNG = np.random.default_rng(0)
N = 800
X = RNG.normal(size=(N, 4))
FRAME = pl.DataFrame(
    {
        "signal": X[:, 0],
        "noise": X[:, 1],
        "copy": X[:, 0] * -2 + 0.01 * X[:, 2],
        "weak": X[:, 3],
    }
)
TARGET = X[:, 0] ** 2 + 0.3 * X[:, 3]


def test_correlations_agree_with_numpy() -> None:
    found = correlations(FRAME.to_numpy())

    np.testing.assert_allclose(found, np.corrcoef(FRAME.to_numpy().T), atol=1e-12)


def test_correlations_use_the_rows_that_have_both_values() -> None:
    gappy = FRAME.to_numpy().copy()
    gappy[RNG.random(gappy.shape) < 0.3] = np.nan
    both = np.isfinite(gappy[:, [0, 2]]).all(axis=1)

    found = correlations(gappy)

    assert found[0, 2] == pytest.approx(np.corrcoef(gappy[both][:, [0, 2]].T)[0, 1], abs=1e-12)


def test_the_later_of_two_columns_that_say_the_same_is_dropped() -> None:
    fitted, _ = fit_recipe(Recipe((DropCorrelated(threshold=0.9),)), FRAME, None, seed=0)

    assert fitted.feature_names == ("signal", "noise", "weak")
    assert fitted.steps[0].reason == "copy (r = -1.000 with signal)"
    assert "copy" not in fitted.inputs


def test_mutual_information_orders_columns_as_scikit_learn_does() -> None:
    found = mutual_information(FRAME.to_numpy(), TARGET)

    reference = mutual_info_regression(FRAME.to_numpy(), TARGET, random_state=0)
    assert set(np.argsort(found)[-2:]) == {0, 2}
    assert set(np.argsort(found)[-3:]) == set(np.argsort(reference)[-3:])


def test_mutual_information_of_independent_halves_is_worked_by_hand() -> None:
    column = np.array([[0.0], [0.0], [1.0], [1.0]])

    same = mutual_information(column, np.array(["a", "a", "b", "b"]))
    none = mutual_information(column, np.array(["a", "b", "a", "b"]))

    # two equally likely values that tell each other: ln 2
    assert same[0] == pytest.approx(np.log(2.0))
    assert none[0] == pytest.approx(0.0)


@pytest.mark.parametrize("by", ["mutual_information", "boosted"])
@pytest.mark.parametrize("target", [TARGET, np.where(TARGET > 1.0, "high", "low")])
def test_the_columns_that_tell_most_are_kept(by: Any, target: np.ndarray) -> None:
    frame = FRAME.drop("copy")

    fitted, found = fit_recipe(Recipe((SelectBest(k=1, by=by),)), frame, target, seed=0)

    assert fitted.feature_names == ("signal",)
    assert found.shape == (N, 1)
    assert fitted.steps[0].reason.startswith(f"best by {by}: signal")


def test_selection_needs_a_target() -> None:
    with pytest.raises(InvalidInputError, match="no target"):
        fit_recipe(Recipe((SelectBest(k=1),)), FRAME, None, seed=0)


def test_no_step_can_read_personal_data_that_was_dropped() -> None:
    private = DropPersonal(columns=("noise",))

    fitted, _ = fit_recipe(Recipe((private,)), FRAME, None, seed=0)

    assert "noise" not in fitted.inputs
    assert fitted.explain() == [("drop", ("noise",), "personal data")]
    with pytest.raises(InvalidInputError, match="'noise', which is not there"):
        fit_recipe(Recipe((private, Scale(columns=("noise",)))), FRAME, None, seed=0)


def test_personal_data_that_no_step_can_read_is_dropped() -> None:
    frame = FRAME.with_columns(faces=pl.lit([1, 2]))

    fitted, _ = fit_recipe(Recipe((DropPersonal(columns=("faces",)),)), frame, None, seed=0)

    assert "faces" not in fitted.feature_names
