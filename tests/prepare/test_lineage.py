"""Every feature is traced to the raw columns it was made from, and to no other."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from loopwright.prepare import fit_recipe, suggest
from loopwright.prepare.date_part import DateParts
from loopwright.prepare.encoding import TargetEncode
from loopwright.prepare.imputation import Impute
from loopwright.prepare.interaction import Interact
from loopwright.prepare.lineage import feature_origins
from loopwright.prepare.one_hot import OneHot
from loopwright.prepare.rare import Hash
from loopwright.prepare.recipe import Recipe
from loopwright.prepare.scaling import Scale
from loopwright.prepare.step import Derive, Drop
from loopwright.prepare.text_vector import TextVector
from loopwright.prepare.union import RecipeUnion

N = 80


def houses() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "area": pl.Series(rng.uniform(40, 300, N)).set(pl.Series(rng.random(N) < 0.1), None),
            "rooms": rng.integers(1, 9, N).astype(float),
            "town": rng.choice(["Aa", "Bee", "Cod"], N),
            "street": rng.choice([f"street {k}" for k in range(20)], N),
            "text": rng.choice(["a fine old house", "a small new flat", "an old flat"], N),
            "sold": [
                date(2024, 1, 1) + timedelta(days=int(day)) for day in rng.integers(0, 700, N)
            ],
            "noise": rng.normal(size=N),
        }
    )


RECIPE = Recipe(
    (
        Drop(columns=("noise",)),
        Derive(name="per_room", expression="area / rooms"),
        DateParts(columns=("sold",), parts=("year", "month")),
        Impute(columns=("area", "per_room")),
        Interact(columns=("rooms", "per_room")),
        OneHot(columns=("town",)),
        TargetEncode(columns=("street",)),
        TextVector(columns=("text",)),
        Scale(columns=("area", "rooms")),
    )
)


def test_features_are_traced_through_every_step() -> None:
    frame = houses()
    fitted, _ = fit_recipe(RECIPE, frame, np.arange(N, dtype=float), seed=0)

    origins = dict(zip(fitted.feature_names, feature_origins(fitted), strict=True))

    assert origins["area"] == ("area",)
    assert origins["per_room"] == ("area", "rooms")
    assert origins["rooms*per_room"] == ("rooms", "area")
    assert origins["sold_month"] == ("sold",)
    assert all(origins[name] == ("town",) for name in origins if name.startswith("town"))
    assert all(origins[name] == ("text",) for name in origins if name.startswith("text"))
    assert {column for each in origins.values() for column in each} == {*frame.columns} - {"noise"}


def test_a_column_changes_no_feature_that_is_not_traced_to_it() -> None:
    frame = houses()
    fitted, _ = fit_recipe(RECIPE, frame, np.arange(N, dtype=float), seed=0)
    before = fitted.transform(frame)

    for column in fitted.inputs:
        changed = frame.with_columns(pl.col(column).reverse())
        moved = ~((fitted.transform(changed) == before) | np.isnan(before)).all(axis=0)

        traced = np.array([column in each for each in feature_origins(fitted)])
        assert not (moved & ~traced).any()
        assert (moved & traced).any()


def test_hashed_columns_and_unions_are_traced() -> None:
    frame = houses().select("town", "rooms")
    hashed, _ = fit_recipe(Recipe((Hash(columns=("town",), n_features=3),)), frame, None, seed=0)
    plain, _ = fit_recipe(Recipe((Drop(columns=("town",)),)), frame, None, seed=0)

    origins = feature_origins(RecipeUnion(recipes=(hashed, plain)))

    assert origins == (("rooms",), ("town",), ("town",), ("town",), ("rooms",))


def test_what_is_suggested_is_traced() -> None:
    frame = houses().with_columns(price=pl.lit(1.0) * pl.col("rooms"))
    recipe = suggest(frame, target="price", task="regression", family="linear")
    fitted, _ = fit_recipe(recipe, frame.drop("price"), frame["price"].to_numpy(), seed=0)

    origins = feature_origins(fitted)

    assert len(origins) == len(fitted.feature_names)
    assert all(each and set(each) <= set(fitted.inputs) for each in origins)
