from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import (
    Clip,
    DateParts,
    Derive,
    Drop,
    Frequency,
    Impute,
    Log1p,
    OneHot,
    Ordinal,
    Recipe,
    Scale,
    TargetEncode,
    TextVector,
    fit_recipe,
    fit_recipe_lazily,
)

TODAY = date(2026, 1, 31)
RECIPE = Recipe(
    (
        Drop(columns=("unused",)),
        Derive(name="age", expression="days_between(day, today())"),
        DateParts(columns=("day",), parts=("year", "month")),
        Impute(columns=("x",)),
        Impute(columns=("y",), strategy="mean"),
        Impute(columns=("city",), strategy="most_frequent"),
        Log1p(columns=("y",)),
        Clip(columns=("y",), tail=0.05),
        TargetEncode(columns=("city", "zip"), keep_source=True),
        Frequency(columns=("zip",)),
        Ordinal(columns=("city",), keep_source=True),
        OneHot(columns=("city",), max_levels=2),
        Scale(),
    )
)


def table(n: int, seed: int, gaps: float = 0.1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)

    def gappy(values: Any) -> list[Any]:
        return [None if rng.random() < gaps else value for value in values]

    return pl.DataFrame(
        {
            "x": gappy(rng.normal(size=n).tolist()),
            "y": gappy(rng.lognormal(sigma=3, size=n).tolist()),
            "zip": gappy(rng.integers(0, 5, size=n).tolist()),
            "city": gappy(rng.choice(["a", "b", "ü", ""], size=n).tolist()),
            "day": [date(2020, 1, 1 + int(k)) for k in rng.integers(0, 28, size=n)],
            "unused": [1] * n,
            "target": rng.normal(size=n),
        },
        schema_overrides={
            "x": pl.Float64, "y": pl.Float64, "zip": pl.Int64, "city": pl.String,
        },
    )  # fmt: skip


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(n=st.integers(1, 40), seed=st.integers(0, 99), gaps=st.sampled_from([0.0, 0.2, 0.9]))
def test_a_file_and_a_table_in_memory_fit_the_same(
    tmp_path: Path, n: int, seed: int, gaps: float
) -> None:
    frame = table(n, seed, gaps)
    frame.write_parquet(tmp_path / "rows.parquet")
    target = frame["target"].to_numpy()
    expected, X = fit_recipe(RECIPE, frame.drop("target"), target, seed=seed, today=TODAY)

    found = fit_recipe_lazily(
        RECIPE,
        tmp_path / "rows.parquet",
        "target",
        seed=seed,
        today=TODAY,
        features=tmp_path / "features.parquet",
    )

    assert found == expected
    written = pl.read_parquet(tmp_path / "features.parquet")
    assert written.columns == list(found.feature_names)
    assert same_bits(written.to_numpy(), X)


@pytest.mark.parametrize("batch_rows", [1, 7, 1_000])
def test_a_file_is_transformed_as_a_table_is(tmp_path: Path, batch_rows: int) -> None:
    frame = table(50, seed=3).with_columns(x=pl.lit(1e308) * pl.col("x"))
    fitted, _ = fit_recipe(RECIPE, frame, frame["target"].to_numpy(), seed=0, today=TODAY)
    frame.write_parquet(tmp_path / "rows.parquet")

    n = fitted.transform_file(
        tmp_path / "rows.parquet", tmp_path / "out" / "features.parquet", batch_rows=batch_rows
    )
    batches = list(fitted.transform_batches(frame.iter_slices(7)))

    written = pl.read_parquet(tmp_path / "out" / "features.parquet")
    assert n == 50
    assert same_bits(written.to_numpy(), fitted.transform(frame))
    assert same_bits(np.concatenate(batches), fitted.transform(frame))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["features.parquet"]


def test_a_transform_that_fails_leaves_no_file(tmp_path: Path) -> None:
    fitted, _ = fit_recipe(Recipe((Scale(),)), pl.DataFrame({"x": [1.0, 2.0]}), None, seed=0)
    broken = pl.LazyFrame({"x": ["1", "b"]}).with_columns(pl.col("x").cast(pl.Float64))

    with pytest.raises(pl.exceptions.PolarsError):
        fitted.transform_file(broken, tmp_path / "features.parquet")

    assert list(tmp_path.iterdir()) == []


def test_steps_upon_target_encodings_fit_the_same_from_a_file(tmp_path: Path) -> None:
    recipe = Recipe(
        (
            TargetEncode(columns=("city",), keep_source=True),
            Derive(name="both", expression="city_target_mean * x"),
            TargetEncode(columns=("zip",)),
            TextVector(columns=("city",), n_features=2),
            Drop(columns=("day", "unused")),
            Impute(),
            Scale(),
        )
    )
    frame = table(300, seed=5).with_columns(pl.col("city") + "nd and " + pl.col("city") + "st")
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=70)
    target = frame["target"].to_numpy()
    expected, X = fit_recipe(recipe, frame.drop("target"), target, seed=1)

    for source in (tmp_path / "rows.parquet", frame.lazy()):
        out = tmp_path / "features.parquet"
        found = fit_recipe_lazily(recipe, source, "target", seed=1, features=out)

        assert found == expected
        assert same_bits(pl.read_parquet(out).to_numpy(), X)


def test_what_is_no_file_no_target_or_no_row_is_refused(tmp_path: Path) -> None:
    frame = table(5, seed=0)
    fitted, _ = fit_recipe(RECIPE, frame, frame["target"].to_numpy(), seed=0, today=TODAY)

    with pytest.raises(InvalidInputError, match="no file"):
        fitted.transform_file(tmp_path / "absent.parquet", tmp_path / "out.parquet")
    with pytest.raises(InvalidInputError, match="Did you mean 'target'"):
        fit_recipe_lazily(RECIPE, frame.lazy(), "tagret", seed=0, today=TODAY)
    with pytest.raises(InvalidInputError, match="0 rows"):
        fit_recipe_lazily(RECIPE, frame.clear().lazy(), "target", seed=0, today=TODAY)
    with pytest.raises(InvalidInputError, match="batch_rows is 0"):
        fitted.transform_file(frame.lazy(), tmp_path / "out.parquet", batch_rows=0)
    with pytest.raises(InvalidInputError, match="no column 'city'"):
        fitted.transform_file(frame.lazy().drop("city"), tmp_path / "out.parquet")


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((np.ascontiguousarray(a).view(np.uint64) == b.view(np.uint64)).all())
