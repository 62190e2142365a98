"""The report from the command line: the first screen as lines, the page as a file, all of it as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from loopwright.cli.main import cli
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

AT = "2026-11-22T12:16:10.674406+00:00"
FILE = """\
name: churn
problem:
  target: Churn
  criteria: [{metric: roc_auc, at_least: 0.82}]
data:
  source: {kind: file, path: rows.csv}
"""
VERDICT = {
    "criterion": "roc_auc at least 0.82",
    "value": 0.85,
    "bound": 0.83,
    "lower": 0.83,
    "upper": 0.87,
    "target": 0.82,
    "holds": True,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a loop file and the records of its first round."""
    (tmp_path / "loop.yaml").write_text(FILE)
    workspace = open_workspace(read_settings({}, home=tmp_path / "home"))
    put = workspace.metadata.put
    question = "Who should get the offer?"
    put("loop", "churn", {"file": "loop.yaml", "question": question, "endpoint": None})
    spec = {"problem": {"target": "Churn", "criteria": [{"metric": "roc_auc", "at_least": 0.82}]}}
    about = {"loop": "churn", "number": 1, "state": "waiting for approval", "cause": "first run"}
    told = {"reason": "", "conclusion": "It holds.", "started_at": AT, "ended_at": None}
    put("round", "churn/000001", {**about, **told, "spec": spec})
    output = {"verdicts": [VERDICT], "figures": {}, "n_rows": 1_408, "promoted": True}
    step = {"stage": "evaluate", "place": 1, "state": "done", "round": 1, "output": output}
    put("step", "churn/000001/evaluate", step)
    return tmp_path


def loopwright(folder: Path, *arguments: str) -> Result:
    command = ["--home", str(folder / "home"), "report", str(folder / "loop.yaml"), *arguments]
    return CliRunner().invoke(cli, command, catch_exceptions=False)


def test_the_first_screen_comes_as_lines(folder: Path) -> None:
    done = loopwright(folder)

    assert done.exit_code == 0, done.output
    for words in (
        "Who should get the offer?",
        "A model waits for your approval",
        "✓ Pairs of cases put in the right order: at least 0.82: 0.85 (beyond doubt at least 0.83)",
        "Is it live? waits for approval",
        "--output report.html",
    ):
        assert words in done.output


def test_the_page_is_written_where_it_is_asked_for(folder: Path) -> None:
    page = folder / "report.html"

    done = loopwright(folder, "--output", str(page))

    assert done.exit_code == 0, done.output
    assert page.read_text().startswith("<!doctype html>")
    assert f"Wrote {page}" in done.output


def test_all_of_it_comes_as_json(folder: Path) -> None:
    found = json.loads(loopwright(folder, "--json").stdout)

    assert found["criteria"][0]["holds"] is True
    assert found["release"]["state"] == "waits for approval"
    assert msgspec.json.encode(found)


def test_a_round_that_is_not_there_is_wrong_use(folder: Path) -> None:
    done = loopwright(folder, "--round", "7")

    assert done.exit_code == 2
    assert "no round 7" in done.output
