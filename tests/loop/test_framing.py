from __future__ import annotations

from pathlib import Path

import polars as pl

from loopwright.core.clock import SystemClock
from loopwright.loop.file import read_loop_file
from loopwright.loop.framing import parted_rows
from loopwright.loop.sourcing import extracted
from loopwright.loop.step import StepResult
from loopwright.settings import Settings
from loopwright.wiring import open_workspace

N = 200


def parted(folder: Path, split: str) -> StepResult:
    rows = {
        "id": range(N),
        "customer": [f"c{n % 25}" for n in range(N)],
        "area": [n % (N // 2) * 7.5 for n in range(N)],
        "price": [n % (N // 2) * 100.5 for n in range(N)],
    }
    pl.DataFrame(rows).write_csv(folder / "rows.csv")
    (folder / "loop.yaml").write_text(
        "name: houses\nproblem: {target: price}\n"
        f"data: {{source: {{kind: file, path: rows.csv}}, split: {split}}}\n"
    )
    workspace = open_workspace(Settings(home=folder / "home"))
    read = read_loop_file(folder / "loop.yaml")
    with extracted(
        read, metadata=None, artifacts=None, clock=SystemClock(), refresh=False, scratch=None
    ) as extraction:
        assert extraction.parquet is not None
        workspace.artifacts.put_file(extraction.parquet)
        return parted_rows(workspace, read.content, extraction.sourced, None)


def test_what_flatters_the_test_stands_in_the_record_of_the_split(tmp_path: Path):
    result = parted(tmp_path, "{by: random}")

    assert [each["kind"] for each in result.output["remarks"]] == ["copies", "group"]
    assert result.reason.count("look out: ") == 2
    assert "split by: group, column: customer" in result.reason


def test_a_split_by_the_group_needs_no_remark(tmp_path: Path):
    result = parted(tmp_path, "{by: group, column: customer}")

    assert result.output["remarks"] == []
    assert result.reason == "split by group, seed 7"


def test_a_home_is_made_for_its_owner_alone(tmp_path: Path):
    home = tmp_path / "new" / "home"

    open_workspace(Settings(home=home))

    assert home.stat().st_mode & 0o777 == 0o700
