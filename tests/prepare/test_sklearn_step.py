from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import (
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import FittedRecipe, Recipe, SklearnStep, fit_recipe
from loopwright.prepare.sklearn_step import TRANSLATORS, translated

RNG = np.random.default_rng(0)
NUMBERS = pl.DataFrame({"a": RNG.normal(size=200), "b": RNG.lognormal(size=200)})
TEXTS = pl.DataFrame({"a": RNG.choice(["x", "y", "z"], 200), "b": RNG.choice(["u", "v"], 200)})
LATER = pl.DataFrame({"a": ["x", "never seen"], "b": ["u", "v"]})

CASES: list[tuple[Any, pl.DataFrame, pl.DataFrame, float]] = [
    (StandardScaler(with_mean=False), NUMBERS, NUMBERS * 2, 1e-9),
    (StandardScaler(), NUMBERS, NUMBERS * 2, 1e-9),
    (RobustScaler(quantile_range=(10.0, 90.0)), NUMBERS, NUMBERS * 2, 1e-9),
    (QuantileTransformer(n_quantiles=50), NUMBERS, NUMBERS * 2, 1e-6),
    (PowerTransformer(), NUMBERS, NUMBERS * 2, 1e-9),
    (PowerTransformer(standardize=False), NUMBERS, NUMBERS * 2, 1e-9),
    (KBinsDiscretizer(4, encode="ordinal", strategy="uniform"), NUMBERS, NUMBERS * 2, 0.0),
    (SimpleImputer(strategy="median"), NUMBERS, NUMBERS, 0.0),
    (OneHotEncoder(handle_unknown="ignore", sparse_output=False), TEXTS, LATER, 0.0),
    (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), TEXTS, LATER, 0.0),
]


@pytest.mark.parametrize(("theirs", "training", "later", "tolerance"), CASES)
def test_a_step_does_what_the_transformer_does(
    theirs: Any, training: pl.DataFrame, later: pl.DataFrame, tolerance: float
) -> None:
    step = SklearnStep.like(theirs, ["a", "b"])

    fitted, _ = fit_recipe(Recipe((step,)), training, None, seed=0)

    reference = theirs.fit(_array(training)).transform(_array(later))
    np.testing.assert_allclose(fitted.transform(later), reference, atol=tolerance)
    types: Any = {"a": "text", "b": "text"} if training is TEXTS else {"a": "number", "b": "number"}
    at_once = FittedRecipe(steps=(translated(theirs, ["a", "b"], types),), inputs=types)
    np.testing.assert_allclose(at_once.transform(later), reference, atol=tolerance)


def test_every_translation_is_tried() -> None:
    assert {type(case[0]).__name__ for case in CASES} == set(TRANSLATORS)


def _array(frame: pl.DataFrame) -> Any:
    found = frame.to_numpy()
    return found.astype(object) if frame.schema["a"] == pl.String else found


def test_what_cannot_be_translated_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="PCA cannot be a step: it would need a pickle"):
        SklearnStep.like(PCA(), ["a", "b"])
    with pytest.raises(InvalidInputError, match="not fitted"):
        translated(StandardScaler(), ["a"], {"a": "number"})


@pytest.mark.parametrize(
    ("transformer", "settings", "message"),
    [
        ("Binarizer", {}, "cannot be a step"),
        ("OneHotEncoder", {}, "handle_unknown='error'"),
        ("OrdinalEncoder", {}, "handle_unknown='error'"),
        ("PowerTransformer", {"method": "box-cox"}, "cannot be|positive"),
        ("KBinsDiscretizer", {"strategy": "uniform"}, "encode='onehot'"),
        ("SimpleImputer", {"add_indicator": True}, "add_indicator"),
        ("StandardScaler", {"surprise": 1}, "cannot be fitted"),
    ],
)
def test_settings_without_a_translation_are_refused(
    transformer: str, settings: Any, message: str
) -> None:
    step = SklearnStep(columns=("a", "b"), transformer=transformer, settings=settings)

    with pytest.raises(InvalidInputError, match=message):
        fit_recipe(Recipe((step,)), NUMBERS, None, seed=0)
