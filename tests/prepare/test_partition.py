"""A table in parts gives the recipe and the features of the whole table, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from loopwright.compute import Capacity, InlineCompute, JobState
from loopwright.core.clock import SystemClock
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.prepare import fit_recipe, suggest
from loopwright.prepare.partition import fit_partitions, transform_partitions

HOUSES = Path(__file__).parents[2] / "examples" / "house-prices" / "houses.parquet"


@pytest.fixture
def compute(tmp_path: Path) -> InlineCompute:
    room = Capacity(cpus=2, memory_mib=8192)
    return InlineCompute(tmp_path / "jobs", SystemClock(), capacity=room)


def parts_of(rows: pl.DataFrame, folder: Path, n: int) -> list[Path]:
    size = -(-len(rows) // n)
    paths = [folder / f"part-{k}.parquet" for k in range(n)]
    for k, path in enumerate(paths):
        rows[k * size : (k + 1) * size].write_parquet(path)
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("family", ["linear", "tree"])
def test_parts_give_what_the_whole_table_gives(
    compute: InlineCompute, tmp_path: Path, family: str
) -> None:
    rows = pl.read_parquet(HOUSES).gather_every(20)
    recipe = suggest(rows, "price", "regression", family=family)  # type: ignore[arg-type]
    parts = parts_of(rows, tmp_path, 3)
    whole, _ = fit_recipe(recipe, rows.drop("price"), rows["price"].to_numpy(), seed=7)

    fitted = fit_partitions(compute, recipe, parts, "price", name="houses")
    made = transform_partitions(compute, fitted, parts, name="houses")

    assert fitted.to_json() == whole.to_json()
    features = pl.concat([pl.read_parquet(path) for path in made]).to_numpy()
    np.testing.assert_array_equal(features, whole.transform(rows))
    again = transform_partitions(compute, fitted, parts, name="houses")
    assert again == made
    assert [job.state for job in compute.list_(kind="preparation")] == [JobState.SUCCEEDED] * 4


@pytest.mark.slow
def test_a_part_that_lacks_a_column_is_named(compute: InlineCompute, tmp_path: Path) -> None:
    rows = pl.read_parquet(HOUSES).gather_every(100)
    recipe = suggest(rows, "price", "regression", family="tree")
    whole, _ = fit_recipe(recipe, rows.drop("price"), rows["price"].to_numpy(), seed=7)
    parts = parts_of(rows.drop("grade"), tmp_path, 1)

    with pytest.raises(BackendError, match="grade"):
        transform_partitions(compute, whole, parts, name="houses")


def test_parts_that_are_not_there_are_refused(compute: InlineCompute, tmp_path: Path) -> None:
    rows = pl.read_parquet(HOUSES).gather_every(100)
    recipe = suggest(rows, "price", "regression", family="tree")

    with pytest.raises(InvalidInputError, match="no part to fit on"):
        fit_partitions(compute, recipe, [], "price", name="houses")
    with pytest.raises(InvalidInputError, match=r"nowhere\.parquet"):
        fit_partitions(compute, recipe, [tmp_path / "nowhere.parquet"], "price", name="houses")
    assert compute.list_() == []
