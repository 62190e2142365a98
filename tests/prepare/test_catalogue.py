from __future__ import annotations

import math
from datetime import date, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.prepare import (
    Bin,
    Cast,
    Clip,
    DateParts,
    Derive,
    Drop,
    DropCorrelated,
    DropPersonal,
    FittedRecipe,
    Frequency,
    GroupImpute,
    GroupRare,
    Hash,
    Impute,
    Interact,
    KnnImpute,
    Log1p,
    OneHot,
    Ordinal,
    Power,
    QuantileScale,
    Recipe,
    RobustScale,
    RowEncoder,
    Scale,
    SelectBest,
    SklearnStep,
    TargetEncode,
    TextVector,
    fit_recipe,
    fit_recipe_lazily,
)
from loopwright.prepare.catalogue import AnyStep, step_name
from loopwright.prepare.order import options_of, read_order, step_kinds

TODAY = date(2026, 1, 31)
SCHEMA: dict[str, Any] = {
    "x": pl.Float64,
    "y": pl.Float64,
    "flag": pl.Boolean,
    "city": pl.String,
    "digits": pl.String,
    "moment": pl.Datetime("us"),
}
REST = (Drop(columns=("city", "digits", "moment")),)


def of_sklearn(transformer: str, *columns: str, **given: Any) -> SklearnStep:
    return SklearnStep(columns=columns, transformer=transformer, settings=given)


UNKNOWN = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
STEPS: dict[str, tuple[Any, ...]] = {
    "drop": (Drop(columns=("x",)), *REST),
    "drop personal": (DropPersonal(columns=("city",)), Drop(columns=("digits", "moment"))),
    "drop correlated": (DropCorrelated(threshold=0.5), *REST),
    "select best": (Drop(columns=("city", "digits", "moment")), SelectBest(k=2)),
    "select boosted": (Drop(columns=("city", "digits", "moment")), SelectBest(k=2, by="boosted")),
    "derive": (Derive(name="z", expression="x * 2 + y"), *REST),
    "cast to number": (
        Cast(columns=("digits", "flag", "y"), to="number"),
        Drop(columns=("city", "moment")),
    ),
    "cast to text": (
        Cast(columns=("x", "flag", "moment", "city"), to="text"),
        Hash(columns=("x", "flag", "moment", "city", "digits")),
    ),
    "cast to boolean": (
        Cast(columns=("x", "flag", "digits"), to="boolean"),
        Drop(columns=("city", "moment")),
    ),
    "cast to date": (
        Cast(columns=("digits", "moment"), to="date"),
        DateParts(columns=("digits", "moment")),
        Drop(columns=("city",)),
    ),
    "cast to date by format": (
        Cast(columns=("digits",), to="date", format="%d.%m.%Y"),
        DateParts(columns=("digits",)),
        Drop(columns=("city", "moment")),
    ),
    "date parts": (
        DateParts(columns=("moment",), parts=("month", "hour", "month_sin")),
        Drop(columns=("city", "digits")),
    ),
    "cyclic date parts": (
        DateParts(
            columns=("moment",),
            parts=("year", "month", "day_of_week", "day_of_year", "hour", "days"),
            cyclic=True,
        ),
        Drop(columns=("city", "digits")),
    ),
    "product": (Interact(columns=("x", "y", "flag")), *REST),
    "ratio": (Interact(columns=("x", "y", "flag"), by="ratio"), *REST),
    "sum": (Interact(columns=("x", "y"), by="sum"), *REST),
    "difference": (Interact(columns=("x", "y"), by="difference"), *REST),
    "impute": (Impute(), *REST),
    "group impute": (GroupImpute(columns=("x", "flag"), by="city"), *REST),
    "group impute by number": (GroupImpute(columns=("x", "flag"), by="y"), *REST),
    "knn impute": (KnnImpute(columns=("x", "y", "flag"), n_neighbours=2, max_rows=5), *REST),
    "log1p": (Log1p(columns=("x",)), *REST),
    "power": (Power(columns=("x", "y", "flag")), *REST),
    "clip": (Clip(columns=("x",), tail=0.1), *REST),
    "bin": (Bin(columns=("x", "flag"), n_bins=4), *REST),
    "uniform bin": (Bin(columns=("y",), n_bins=4, strategy="uniform"), *REST),
    "scale, then others": (
        Scale(columns=("x", "y", "flag")),
        Interact(columns=("x", "y")),
        Power(columns=("x",)),
        Bin(columns=("y",), n_bins=3),
        *REST,
    ),
    "robust scale": (RobustScale(), *REST),
    "quantiles": (QuantileScale(columns=("x", "flag"), n_quantiles=5), *REST),
    "normal quantiles": (QuantileScale(columns=("x", "y"), output="normal"), *REST),
    "group rare": (
        GroupRare(columns=("city", "digits"), min_share=0.3),
        OneHot(columns=("city", "digits")),
        Drop(columns=("moment",)),
    ),
    "one hot": (OneHot(columns=("city", "y")), Drop(columns=("digits", "moment"))),
    "ordinal": (Ordinal(columns=("city", "y")), Drop(columns=("digits", "moment"))),
    "frequency": (Frequency(columns=("city", "y")), Drop(columns=("digits", "moment"))),
    "target encode": (TargetEncode(columns=("city", "y")), Drop(columns=("digits", "moment"))),
    "hash": (Hash(columns=("city", "digits"), n_features=3), Drop(columns=("moment",))),
    "tf-idf": (
        TextVector(columns=("city", "digits"), words=2, characters=True),
        Drop(columns=("moment",)),
    ),
    "hashed text": (
        TextVector(columns=("city",), method="hashed", n_features=7),
        Drop(columns=("digits", "moment")),
    ),
    "sklearn scale": (of_sklearn("StandardScaler", "x", "y", "flag"), *REST),
    "sklearn robust": (of_sklearn("RobustScaler", "x", "y", with_centering=False), *REST),
    "sklearn bins": (
        Impute(columns=("x", "y")),
        of_sklearn("KBinsDiscretizer", "x", n_bins=3, encode="ordinal", strategy="uniform"),
        *REST,
    ),
    "sklearn one hot": (
        of_sklearn("OneHotEncoder", "city", handle_unknown="ignore"),
        Drop(columns=("digits", "moment")),
    ),
    "sklearn ordinal": (
        of_sklearn("OrdinalEncoder", "city", "y", **UNKNOWN),
        Drop(columns=("digits", "moment")),
    ),
}
_FLOATS = (
    st.none()
    | st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf])
    | st.floats(-100, 100)
    | st.floats()
)
_TEXTS = st.none() | st.sampled_from(
    ["", "Berlin", "berlin mitte", "BERLIN MITTE mitte", "Grün", "日本 語", "İx", "\x00", "ǅa bc"]
)
_DIGITS = st.none() | st.sampled_from(
    ["1", " 2.5 ", "1e3", "nan", "inf", "1_000", "yes", "NO", "2026-01-31", "31.01.2026", "", "٣"]
)
_ROW = {
    "x": _FLOATS,
    "y": _FLOATS,
    "flag": st.none() | st.booleans(),
    "city": _TEXTS,
    "digits": _DIGITS,
    "moment": st.none()
    | st.datetimes(datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2100-01-01")),
}


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool((a.view(np.uint64) == b.view(np.uint64)).all())


def test_every_step_has_an_example() -> None:
    tried = {type(step) for steps in STEPS.values() for step in steps}

    assert tried == set(get_args(AnyStep))


@pytest.mark.parametrize("name", list(STEPS))
@settings(max_examples=8, deadline=None)
@given(
    training=st.lists(st.fixed_dictionaries(_ROW), min_size=3, max_size=14),
    later=st.lists(st.fixed_dictionaries(_ROW), min_size=1, max_size=6),
)
@pytest.mark.filterwarnings("ignore:Bins whose width are too small")
def test_every_step_gives_a_table_and_a_row_the_same_bits(
    name: str, training: list[dict[str, Any]], later: list[dict[str, Any]]
) -> None:
    frame = pl.DataFrame(
        # scikit-learn refuses a column of one value only, or none
        [
            *training,
            {"x": 0.5, "y": 2.0, "flag": True, "city": "a"},
            {"x": 1.5, "y": -3.0, "city": "Berlin"},
        ],
        schema=SCHEMA,
    )
    if name.startswith("sklearn"):
        # and it overflows on what is huge
        frame = frame.with_columns(pl.col("x", "y").clip(-1e6, 1e6))
    recipe = Recipe.from_json(Recipe(STEPS[name]).to_json())
    target = np.arange(frame.height, dtype=np.float64) ** 1.5
    fitted, _ = fit_recipe(recipe, frame, target, seed=0, today=TODAY)
    reopened = FittedRecipe.from_json(fitted.to_json())
    table = pl.DataFrame(later, schema=SCHEMA)

    by_table = fitted.transform(table)
    by_row = RowEncoder(reopened).encode(later, today=TODAY)

    assert reopened == fitted
    assert recipe == Recipe(STEPS[name])
    assert same_bits(by_table, by_row)
    assert not np.isinf(by_table).any()


@pytest.mark.parametrize("name", list(STEPS))
def test_every_step_is_fitted_and_done_alike_on_a_file(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    n = 300
    frame = pl.DataFrame(
        {
            "x": rng.normal(size=n),
            "y": rng.integers(0, 9, size=n).astype(float),
            "flag": rng.random(n) < 0.4,
            "city": rng.choice(["Berlin", "berlin mitte", "Grün"], size=n),
            "digits": rng.choice(["1", "2026-01-31", "yes"], size=n),
            "moment": [
                datetime.fromisoformat(f"2020-{k + 1:02}-03T{k:02}:00")
                for k in rng.integers(0, 12, size=n)
            ],
            "target": rng.normal(size=n),
        }
    ).with_columns(
        pl.when(pl.int_range(pl.len()) % 7 > 0).then(pl.col("x")),
        pl.when(pl.int_range(pl.len()) % 11 > 0).then(pl.col("flag")),
    )
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=50)
    recipe = Recipe(STEPS[name])
    rows = frame.drop("target")
    expected, _ = fit_recipe(recipe, rows, frame["target"].to_numpy(), seed=1, today=TODAY)

    found = fit_recipe_lazily(recipe, tmp_path / "rows.parquet", "target", seed=1, today=TODAY)
    found.transform_file(tmp_path / "rows.parquet", tmp_path / "out.parquet", batch_rows=64)

    assert found == expected
    features = expected.transform(rows)
    assert same_bits(np.array(pl.read_parquet(tmp_path / "out.parquet"), order="C"), features)
    assert same_bits(RowEncoder(expected).encode(rows.to_dicts(), today=TODAY), features)


def test_every_step_that_can_be_ordered_is_tried() -> None:
    tried = {step_name(step) for steps in STEPS.values() for step in steps}

    assert tried == set(step_kinds())


@pytest.mark.parametrize("name", list(STEPS))
def test_every_tried_step_can_be_ordered_in_a_loop_file(name: str) -> None:
    for step in STEPS[name]:
        written = msgspec.to_builtins(step)
        order = {key: written[key] for key in ("step", *options_of(type(step)))}

        found = read_order(order, place="prepare.steps[0]")

        assert msgspec.structs.replace(found, reason=step.reason) == step
