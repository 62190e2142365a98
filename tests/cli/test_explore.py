"""A table is looked at before there is a loop over it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
from click.testing import CliRunner

from loopwright.cli.main import cli


def test_a_table_is_profiled_without_a_loop_and_leaves_nothing_behind(tmp_path: Path):
    rows = {"town": ["Bonn", "Ulm"] * 50, "mail": [f"u{n}@example.org" for n in range(100)]}
    pl.DataFrame({**rows, "y": range(100)}).write_csv(tmp_path / "sales.csv")
    page = tmp_path / "page.html"
    given = ["--home", str(tmp_path / "home"), "explore", str(tmp_path / "sales.csv")]

    shown = CliRunner().invoke(cli, [*given, "--target", "y", "-o", str(page)])
    found = json.loads(CliRunner().invoke(cli, [*given, "--json"]).stdout)
    wrong = CliRunner().invoke(cli, [*given, "--target", "yy"])

    assert shown.exit_code == 0
    assert "100 rows, 3 columns" in shown.stdout
    assert "e-mail addresses" in shown.stdout
    assert "u7@example.org" not in shown.stdout
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [column["name"] for column in found["columns"]] == ["town", "mail", "y"]
    assert (wrong.exit_code, "Did you mean 'y'?" in wrong.stderr) == (2, True)
    assert not (tmp_path / "home").exists()


def test_a_loop_is_profiled_before_its_first_run_without_its_test_rows(tmp_path: Path):
    rows = {"town": ["Bonn", "Ulm"] * 100, "size": range(200), "y": [n * 1.5 for n in range(200)]}
    pl.DataFrame(rows).write_csv(tmp_path / "sales.csv")
    (tmp_path / "loop.yaml").write_text(
        "name: sales\n"
        "problem: {question: What will it bring, action: Quote it, target: y,\n"
        "  criteria: [{metric: mae, at_most: 5}]}\n"
        "data: {source: {kind: file, path: sales.csv}, split: {train: 0.6, validation: 0.2, test: 0.2}}\n"
    )
    page = tmp_path / "page.html"
    given = ["--home", str(tmp_path / "home"), "explore", str(tmp_path / "loop.yaml")]

    shown = CliRunner().invoke(cli, [*given, "-o", str(page)])
    found = json.loads(CliRunner().invoke(cli, [*given, "--json"]).stdout)

    assert (shown.exit_code, found["n_rows"], found["target"]) == (0, 160, "y")
    assert "160 rows, 3 columns" in shown.stdout
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not (tmp_path / "home").exists()
