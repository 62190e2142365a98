from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import OneHot, Recipe, RowEncoder, Scale, TargetEncode, fit_recipe
from loopwright.prepare.transformer import RecipeTransformer

RNG = np.random.default_rng(0)
N = 60
TABLE = pl.DataFrame(
    {
        "size": RNG.normal(size=N),
        "city": RNG.choice(["a", "b", None], size=N).tolist(),
        "street": RNG.choice([f"street {k}" for k in range(20)], size=N).tolist(),
    }
)
TARGET = RNG.normal(size=N)
RECIPE = Recipe(
    (TargetEncode(columns=("street",)), OneHot(columns=("city",)), Scale(columns=("size",)))
)


def test_scikit_learn_finds_nothing_wrong() -> None:
    with warnings.catch_warnings():
        # the checks themselves warn of what they skip
        warnings.simplefilter("ignore")
        results = check_estimator(RecipeTransformer(), on_fail=None)

    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert failed == {}
    assert sum(r["status"] == "passed" for r in results) > 30


@pytest.mark.parametrize("as_pandas", [False, True])
def test_tables_of_both_libraries_give_the_features_of_the_recipe(as_pandas: bool) -> None:
    _, X = fit_recipe(RECIPE, TABLE, TARGET, seed=3)
    table: Any = TABLE.to_pandas() if as_pandas else TABLE
    transformer = RecipeTransformer(RECIPE, seed=3)

    found = transformer.fit_transform(table, TARGET)

    np.testing.assert_array_equal(found, X)
    assert transformer.get_feature_names_out().tolist() == list(transformer.fitted_.feature_names)
    np.testing.assert_array_equal(
        RowEncoder(transformer.fitted_).encode(TABLE.to_dicts()), transformer.transform(table)
    )


def test_training_rows_get_the_encoding_of_other_folds() -> None:
    transformer = RecipeTransformer(RECIPE)

    trained = transformer.fit_transform(TABLE, TARGET)
    transformed = transformer.transform(TABLE)

    column = list(transformer.get_feature_names_out()).index("street_target_mean")
    assert not np.allclose(trained[:, column], transformed[:, column])
    np.testing.assert_array_equal(np.delete(trained, column, 1), np.delete(transformed, column, 1))


def test_it_works_inside_a_pipeline_and_clones() -> None:
    pipeline = make_pipeline(RecipeTransformer(family="scaled"), LinearRegression())

    scores = cross_val_score(clone(pipeline), TABLE.to_pandas(), TARGET, cv=3)

    assert np.isfinite(scores).all()
    assert clone(RecipeTransformer(RECIPE, seed=4)).get_params()["recipe"] == RECIPE


def test_without_a_target_no_mean_of_it_is_suggested() -> None:
    transformer = RecipeTransformer().fit(TABLE)

    steps = [step["step"] for step in json.loads(transformer.recipe_.to_json())["steps"]]
    assert "target_encode" not in steps
    assert "frequency" in steps


def test_other_columns_and_other_lengths_are_refused() -> None:
    transformer = RecipeTransformer(RECIPE).fit(TABLE, TARGET)

    with pytest.raises(ValueError, match="feature names"):
        transformer.transform(TABLE.to_pandas().drop(columns="city"))
    with pytest.raises(ValueError, match="60 rows, y has 59"):
        RecipeTransformer(RECIPE).fit(TABLE, TARGET[1:])
    with pytest.raises(InvalidInputError, match="pandas table cannot be read"):
        RecipeTransformer(RECIPE).fit(TABLE.to_pandas().assign(city=[1, "a"] * (N // 2)), TARGET)
