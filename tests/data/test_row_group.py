"""Row groups are put together to the very bytes that writing all rows at once gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.clock import FixedClock
from loopwright.data import row_group, take_snapshot
from loopwright.data.row_group import are_joinable, join_groups, write_groups
from loopwright.store.memory import MemoryArtifactStore

COLUMNS = {
    "whole": st.integers(-(2**62), 2**62),
    "real": st.floats(allow_nan=False),
    "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    "few": st.sampled_from(["north", "south", ""]),
    "yes": st.booleans(),
    "nothing": st.none(),
}
TYPES = {
    "whole": pl.Int64,
    "real": pl.Float64,
    "text": pl.String,
    "few": pl.String,
    "yes": pl.Boolean,
    "nothing": pl.Date,
}


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    n_rows = draw(st.integers(1, 60))
    cells = {
        name: draw(st.lists(st.none() | each, min_size=n_rows, max_size=n_rows))
        for name, each in COLUMNS.items()
    }
    return pl.DataFrame(cells, schema=TYPES)


@contextmanager
def groups_of_20() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(row_group, "GROUP_ROWS", 20)
        patched.setitem(row_group.PACKING, "row_group_size", 20)
        yield


def parts_of(rows: pl.DataFrame, folder: Path, packing: dict[str, object]) -> list[Path]:
    paths = []
    for number, start in enumerate(range(0, rows.height, 20)):
        paths.append(folder / f"part-{number}.parquet")
        rows[start : start + 20].write_parquet(paths[-1], **packing)  # type: ignore[arg-type]
    return paths


@groups_of_20()
@settings(max_examples=30, deadline=None)
@given(rows=tables(), kept=st.sets(st.sampled_from(sorted(COLUMNS))), is_packed=st.booleans())
def test_joined_groups_are_the_bytes_of_one_writing(
    tmp_path_factory: pytest.TempPathFactory,
    rows: pl.DataFrame,
    kept: set[str],
    is_packed: bool,
):
    folder = tmp_path_factory.mktemp("groups")
    paths = parts_of(rows, folder, row_group.PACKING if is_packed else {"compression": "lz4"})
    write_groups(rows.lazy(), folder / "whole.parquet")

    join_groups(
        paths,
        rows.schema,
        folder / "joined.parquet",
        kept=kept,
        others=lambda path, names: pl.read_parquet(path, columns=list(names)),
    )

    assert are_joinable(paths)
    assert (folder / "joined.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()
    assert pq.read_table(folder / "joined.parquet").num_rows == rows.height  # type: ignore[no-untyped-call]


@groups_of_20()
def test_only_files_of_one_whole_group_each_can_be_joined(tmp_path: Path):
    rows = pl.DataFrame({"x": range(45)})
    paths = parts_of(rows, tmp_path, row_group.PACKING)

    assert are_joinable(paths)
    assert not are_joinable(paths[::-1])
    assert not are_joinable([])
    write_groups(rows.lazy(), tmp_path / "three.parquet")
    assert not are_joinable([tmp_path / "three.parquet"])


class _Rows:
    """A source of the rows of a frame, some at a time."""

    def __init__(self, rows: pl.DataFrame, n_rows: int) -> None:
        self._batches = [
            pl.DataFrame(
                [
                    # as a database gives them: of no type where all is missing
                    s if s.count() else pl.Series(s.name, [None] * len(s), dtype=pl.Null)
                    for s in rows[start : start + n_rows]
                ]
            )
            for start in range(0, rows.height, n_rows)
        ]

    def describe(self) -> str:
        return "table"

    def fingerprint(self) -> None:
        return

    def batches(self) -> list[pl.DataFrame]:
        return self._batches


@pytest.mark.parametrize("n_rows", [7_000, 60_000, 250_000])
def test_a_snapshot_is_the_same_bytes_however_its_rows_came(tmp_path: Path, n_rows: int):
    # one column is text that reads as numbers, one has a zone, one is not filled in for long
    n = 250_000
    number = np.arange(n)
    rows = pl.DataFrame(
        {
            "id": number,
            "amount": number / 7,
            "text": pl.Series(number % 977).cast(pl.String),
            "shop": [f"shop {i % 13}" for i in range(n)],
            "at": pl.Series(number * 10**6).cast(pl.Datetime("us", "UTC")),
            "late": pl.Series(np.where(number > 190_000, number, 0)).replace(0, None),
        }
    )
    wanted = rows.with_columns(
        pl.col("text").cast(pl.Int64), pl.col("at").dt.replace_time_zone(None)
    )
    write_groups(wanted.lazy(), tmp_path / "wanted.parquet")
    artifacts = MemoryArtifactStore(tmp_path / "artifacts")

    taken = take_snapshot(
        _Rows(rows, n_rows),  # type: ignore[arg-type]
        artifacts=artifacts,
        clock=FixedClock(),
        folder=tmp_path,
    )

    found = artifacts.local_path(taken.digest)
    assert found.read_bytes() == (tmp_path / "wanted.parquet").read_bytes()
    assert {each.column for each in taken.conversions} == {"text", "at"}
