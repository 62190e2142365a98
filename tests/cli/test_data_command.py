"""The commands on snapshots, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loopwright.cli.main import cli

LOOP = """
name: visits
problem: {target: paid}
data: {source: {kind: file, path: visits.csv}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    days = [f"2024-01-{1 + i % 28:02}" for i in range(60)]
    days[7] = "0000-00-00"
    rows = [f"{i},{day},{'?' if i == 9 else i / 2},{'ny'[i % 2]}" for i, day in enumerate(days)]
    (tmp_path / "visits.csv").write_text("\n".join(["id,day,price,paid", *rows]) + "\n")
    (tmp_path / "loop.yaml").write_text(LOOP)
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--home", str(folder / "home"), "data", *arguments])


def test_a_snapshot_says_which_columns_were_left_as_text_and_which_cells_went(folder: Path) -> None:
    refreshed = run(folder, "refresh", str(folder / "loop.yaml"))

    shown = run(folder, "show", "latest")
    facts = json.loads(run(folder, "show", "latest", "--json").stdout)

    assert (refreshed.exit_code, shown.exit_code) == (0, 0), refreshed.output + shown.output
    notes = {
        "day": "Left as text: 1 of 60 are no date (Y-M-D), such as '0000-00-00'.",
        "price": "Every value reads as a number, 1 placeholders aside.",
    }
    assert facts["notes"] == notes
    assert all(f"  {name}: {reason}\n" in shown.stdout for name, reason in notes.items())


def test_a_loop_is_named_by_its_file_as_well(folder: Path) -> None:
    run(folder, "refresh", str(folder / "loop.yaml"))

    by_file = run(folder, "list", str(folder / "loop.yaml"), "--json")
    by_name = run(folder, "list", "visits", "--json")
    shown = run(folder, "show", "visits", "--json")
    of_file = run(folder, "show", "--loop", str(folder / "loop.yaml"), "--json")

    assert by_file.stdout == by_name.stdout
    assert json.loads(shown.stdout) == json.loads(of_file.stdout)
    assert json.loads(shown.stdout)["loop"] == "visits"
