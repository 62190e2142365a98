from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.preprocessing import TargetEncoder as SklearnTargetEncoder

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import Frequency, OneHot, Ordinal, Recipe, TargetEncode, fit_recipe
from loopwright.prepare.encoding import _folds
from loopwright.prepare.step import Training

RNG = np.random.default_rng(7)
CITIES = pl.DataFrame(
    {"city": RNG.choice(["a", "b", "c", "d", "é"], size=200, p=[0.5, 0.2, 0.2, 0.05, 0.05])}
)
PRICES = RNG.normal(size=200) + (CITIES["city"] == "a").to_numpy()
NEW = pl.DataFrame({"city": ["a", "unseen", None, "é"]})


def fitted_on(step: Any, frame: pl.DataFrame = CITIES, target: Any = PRICES, seed: int = 0) -> Any:
    return fit_recipe(Recipe((step,)), frame, target, seed=seed)


def test_one_hot_agrees_with_scikit_learn() -> None:
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(CITIES.to_numpy())

    fitted, found = fitted_on(OneHot(columns=("city",)))

    assert (found == encoder.transform(CITIES.to_numpy())).all()
    assert fitted.feature_names == ("city=a", "city=b", "city=c", "city=d", "city=é")
    assert fitted.transform(NEW).tolist() == [
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
    ]


def test_one_hot_agrees_with_pandas_when_there_are_gaps() -> None:
    frame = pl.DataFrame({"city": ["a", None, "b", "a"]})
    reference = pd.get_dummies(frame["city"].to_list(), dummy_na=True)

    fitted, found = fitted_on(OneHot(columns=("city",)), frame, None)

    assert (found == reference.to_numpy(dtype=float)).all()
    assert fitted.feature_names == ("city=a", "city=b", "city=missing")


def test_one_hot_keeps_the_most_frequent_levels_and_drops_the_rare() -> None:
    frame = pl.DataFrame({"city": ["a"] * 5 + ["b"] * 3 + ["c"] * 3 + ["d"]})

    most, _ = fitted_on(OneHot(columns=("city",), max_levels=2), frame, None)
    common, _ = fitted_on(OneHot(columns=("city",), min_share=0.25), frame, None)

    assert most.feature_names == ("city=a", "city=b")
    assert common.feature_names == ("city=a", "city=b", "city=c")


def test_levels_of_numbers_and_booleans_are_their_values() -> None:
    frame = pl.DataFrame({"zip": [98001, 98002, 98001], "new": [True, False, True]})

    fitted, found = fitted_on(OneHot(columns=("zip", "new")), frame, None)

    assert fitted.feature_names == ("zip=98001", "zip=98002", "new=0", "new=1")
    assert found[0].tolist() == [1, 0, 0, 1]


def test_names_of_levels_never_collide() -> None:
    frame = pl.DataFrame({"a": ["x", "missing", None], "a=x": [5.0, 6.0, 7.0]})

    fitted, _ = fitted_on(OneHot(columns=("a",)), frame, None)

    assert fitted.feature_names == ("a=x", "a=missing", "a=x_2", "a=missing_2")


def test_ordinal_agrees_with_scikit_learn() -> None:
    reference = OrdinalEncoder().fit_transform(CITIES.to_numpy())

    fitted, found = fitted_on(Ordinal(columns=("city",)))

    assert (found == reference).all()
    assert np.isnan(fitted.transform(NEW)[1:3]).all()


def test_ordinal_follows_a_given_order() -> None:
    frame = pl.DataFrame({"size": ["small", "large", "medium", "huge"]})

    _, found = fitted_on(
        Ordinal(columns=("size",), order=("small", "medium", "large")), frame, None
    )

    assert found[:3, 0].tolist() == [0, 2, 1]
    assert np.isnan(found[3, 0])


def test_frequency_agrees_with_pandas() -> None:
    series = pd.Series(CITIES["city"].to_list())
    shares = series.value_counts(normalize=True)

    fitted, found = fitted_on(Frequency(columns=("city",)))

    np.testing.assert_allclose(found[:, 0], series.map(shares))
    assert fitted.transform(NEW)[1, 0] == 0.0


@pytest.mark.parametrize("smoothing", [0.5, 10.0])
def test_target_encoding_of_new_rows_agrees_with_scikit_learn(smoothing: float) -> None:
    encoder = SklearnTargetEncoder(target_type="continuous", smooth=smoothing)
    encoder.fit(CITIES.to_numpy(), PRICES)

    fitted, _ = fitted_on(TargetEncode(columns=("city",), smoothing=smoothing))

    np.testing.assert_allclose(fitted.transform(NEW), encoder.transform(NEW.to_numpy()), rtol=1e-12)


def test_training_rows_get_what_scikit_learn_learns_from_the_other_folds() -> None:
    _, found = fitted_on(TargetEncode(columns=("city",)), seed=3)
    training = Training(table=CITIES, types={"city": "text"}, target=PRICES, seed=3, today=None)
    folds = _folds(training, 5)

    for fold in range(5):
        others, own = folds != fold, folds == fold
        encoder = SklearnTargetEncoder(target_type="continuous", smooth=10.0)
        encoder.fit(CITIES.to_numpy()[others], PRICES[others])
        expected = encoder.transform(CITIES.to_numpy()[own])
        np.testing.assert_allclose(found[own], expected, rtol=1e-12)


def test_a_row_never_sees_its_own_target() -> None:
    # every row has a level of its own, so any correlation would be a leak
    frame = pl.DataFrame({"id": [f"row {i}" for i in range(100)]})
    target = RNG.normal(size=100)

    _, found = fitted_on(TargetEncode(columns=("id",), smoothing=0.0), frame, target)

    assert np.corrcoef(found[:, 0], target)[0, 1] < 0.0 or found[:, 0].std() < 1e-9


def test_folds_hold_equal_shares_of_each_class() -> None:
    target = np.array([0.0] * 80 + [1.0] * 20)
    frame = pl.DataFrame({"a": ["x"] * 100})
    training = Training(table=frame, types={"a": "text"}, target=target, seed=1, today=None)

    folds = _folds(training, 5)

    assert [int(target[folds == fold].sum()) for fold in range(5)] == [4] * 5
    assert np.bincount(folds).tolist() == [20] * 5


def test_the_seed_decides_the_folds() -> None:
    step = TargetEncode(columns=("city",))

    first, again, other = (fitted_on(step, seed=seed)[1] for seed in (1, 1, 2))

    assert (first == again).all()
    assert not (first == other).all()


def test_two_classes_are_encoded_as_the_share_of_the_later() -> None:
    frame = pl.DataFrame({"a": ["x", "x", "y", "y"]})
    target = np.array(["No", "Yes", "Yes", "Yes"])

    fitted, _ = fitted_on(TargetEncode(columns=("a",), smoothing=0.0), frame, target)

    assert fitted.transform(frame)[:, 0].tolist() == [0.5, 0.5, 1.0, 1.0]


def test_more_classes_get_a_column_each_as_in_scikit_learn() -> None:
    target = RNG.choice(["p", "q", "r"], size=200)
    encoder = SklearnTargetEncoder(target_type="multiclass", smooth=10.0)
    encoder.fit(CITIES.to_numpy(), target)

    fitted, _ = fitted_on(TargetEncode(columns=("city",), per_class=True), target=target)

    assert fitted.feature_names == ("city_share_of_p", "city_share_of_q", "city_share_of_r")
    np.testing.assert_allclose(fitted.transform(NEW), encoder.transform(NEW.to_numpy()), rtol=1e-12)
    with pytest.raises(InvalidInputError, match="3 classes"):
        fitted_on(TargetEncode(columns=("city",)), target=target)


def test_a_missing_level_learns_its_own_mean() -> None:
    frame = pl.DataFrame({"a": ["x", None, None, "x"]})

    fitted, _ = fitted_on(
        TargetEncode(columns=("a",), smoothing=0.0), frame, np.array([1.0, 5.0, 7.0, 3.0])
    )

    assert fitted.transform(frame)[:, 0].tolist() == [2.0, 6.0, 6.0, 2.0]


def test_the_source_can_be_kept_beside_its_encoding() -> None:
    frame = pl.DataFrame({"zip": [98001, 98002, 98001, 98002]})

    fitted, found = fitted_on(
        TargetEncode(columns=("zip",), keep_source=True), frame, np.arange(4.0)
    )

    assert fitted.feature_names == ("zip", "zip_target_mean")
    assert found[:, 0].tolist() == [98001, 98002, 98001, 98002]


def test_one_row_and_columns_without_values_are_encoded() -> None:
    frame = pl.DataFrame({"a": ["x"], "b": [None]}, schema={"a": pl.String, "b": pl.String})
    steps = (
        TargetEncode(columns=("a", "b"), keep_source=True),
        Frequency(columns=("a", "b"), keep_source=True),
        Ordinal(columns=("b",)),
        OneHot(columns=("a",)),
    )

    fitted, found = fit_recipe(Recipe(steps), frame, np.array([4.0]), seed=0)

    assert found.shape == (1, 6)
    assert fitted.transform(frame)[0, 0] == 4.0


def test_target_encoding_without_a_target_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="needs the target"):
        fitted_on(TargetEncode(columns=("city",)), target=None)
