"""What is said of rows that break the contract, where they are personal data."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from loopwright.core.clock import FixedClock
from loopwright.data import FileSource, open_source
from loopwright.loop.intake import Before, Intake, shown_categories, take_rows
from loopwright.store.memory import MemoryArtifactStore

PEOPLE = [f"{name}@example.org" for name in ("ann", "bob", "cleo", "dora")]


def taken(
    folder: Path, rows: pl.DataFrame, artifacts: MemoryArtifactStore, before: Before | None = None
) -> Intake:
    rows.write_csv(folder / "people.csv")
    return take_rows(
        open_source(FileSource(path="people.csv"), folder),
        cursor=None,
        before=before,
        artifacts=artifacts,
        clock=FixedClock(),
        folder=folder,
        full=True,
    )


def test_values_of_personal_data_are_masked_in_what_breaks_a_contract(tmp_path: Path):
    rows = pl.DataFrame({"agent": PEOPLE * 30, "town": ["Bonn", "Ulm"] * 60, "n": range(120)})
    artifacts = MemoryArtifactStore(tmp_path / "artifacts")
    first = taken(tmp_path, rows, artifacts)
    before = Before(snapshot=first.snapshot, artifacts=artifacts, contract=first.contract)
    others = rows.with_columns(
        pl.lit("eve@example.org").alias("agent"), pl.lit("Trier").alias("town")
    )

    broken = taken(tmp_path, others, artifacts, before)

    said = {each.column: each.message for each in broken.violations}
    assert "eve@" not in said["agent"]
    assert "'e…@example.org'" in said["agent"]
    assert "'Trier'" in said["town"]
    assert [shown_categories(column) for column in first.contract.columns[:2]] == [
        ["a…@example.org", "b…@example.org", "c…@example.org", "d…@example.org"],
        ["Bonn", "Ulm"],
    ]
