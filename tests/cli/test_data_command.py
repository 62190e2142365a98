"""The commands on snapshots, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loopwright.cli.main import cli
from loopwright.deploy.capture import CapturedPrediction, CaptureLog
from loopwright.notebook import existing_workspace
from loopwright.settings import read_settings

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


def test_what_an_endpoint_captured_is_found_by_its_name_its_loop_and_its_file(
    folder: Path,
) -> None:
    run(folder, "refresh", str(folder / "loop.yaml"))
    workspace = existing_workspace(read_settings({}, home=folder / "home"))
    workspace.metadata.put("endpoint", "paying", {"loop": "visits"})
    log = CaptureLog(workspace.endpoint_folder("paying") / "capture")
    row = CapturedPrediction(
        inference_id="a", at="2026-01-31T12:00:00Z", version="v", inputs={"id": 1}, prediction="y"
    )
    log.write(log.encoded([row]))
    log.close()

    for number, name in enumerate(("paying", "visits", str(folder / "loop.yaml"))):
        told = run(folder, "captured", name, "-o", str(folder / str(number)), "--json")
        assert told.exit_code == 0, told.output
        assert json.loads(told.stdout)["n_lines"] == 1
        assert (folder / str(number) / "paying/AllTraffic/2026/01/31/12/captured.jsonl").is_file()
    unknown = run(folder, "captured", "payin", "-o", str(folder / "none"))
    assert unknown.exit_code != 0
    assert "payin" in unknown.output
