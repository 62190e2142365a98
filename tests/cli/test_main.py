from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from loopwright.cli.main import cli
from loopwright.cli.show import table

EXAMPLE = Path(__file__).parents[2] / "examples" / "house-prices"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a loop that has run once; its endpoint is stopped at the end."""
    folder = tmp_path_factory.mktemp("cli")
    frame = pl.read_parquet(EXAMPLE / "houses.parquet").gather_every(16).head(1_000)
    frame.write_csv(folder / "houses.csv")
    return folder


def loopwright(folder: Path, *arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(
        cli, ["--home", str(folder / "home"), *arguments], input=text, catch_exceptions=False
    )


def test_a_table_goes_from_csv_to_an_endpoint_on_the_command_line(folder: Path) -> None:
    file = str(folder / "loop.yaml")
    try:
        drafted = loopwright(
            folder, "init", str(folder / "houses.csv"), "--target", "price", "-o", file
        )
        assert drafted.exit_code == 0
        text = Path(file).read_text()
        Path(file).write_text(
            text.replace("[linear-learner, knn, xgboost, lightgbm]", "[linear-learner]").replace(
                "at_least: 0.75", "at_least: 0.6"
            )
        )

        ran = loopwright(folder, "run", file, "--json", "--overrule", "we want a model")
        assert ran.exit_code == 0, ran.output
        assert json.loads(ran.stdout)["state"] == "live"
        again = loopwright(folder, "run", file)
        assert "Nothing to do" in again.stdout

        row = pl.read_csv(folder / "houses.csv").row(0, named=True)
        said = loopwright(folder, "predict", file, text=json.dumps(row))
        answer = json.loads(said.stdout)
        assert answer["prediction"] > 0
        refused = loopwright(folder, "predict", file, text='{"bedrooms": 3}')
        assert refused.exit_code == 2

        truth = folder / "truth.csv"
        truth.write_text(f"inference_id,label\n{answer['inference_id']},{row['price']}\n")
        taken = loopwright(folder, "labels", file, str(truth))
        assert "Took in 1 labels" in taken.stdout, taken.stderr
        looked = json.loads(loopwright(folder, "monitor", file, "--json").stdout)
        assert looked["n_labelled"] == 1

        status = json.loads(loopwright(folder, "status", "--json").stdout)[0]
        assert {step["stage"] for step in status["steps"]} >= {
            "data",
            "train",
            "evaluate",
            "verify",
        }
        assert status["endpoint"]["alive"]
        shown = loopwright(folder, "status", file).stdout  # a loop's file names it as well
        assert "round 1" in shown
        jobs = json.loads(loopwright(folder, "jobs", "--json").stdout)
        assert {job["kind"] for job in jobs} == {"training", "endpoint"}
        log = loopwright(folder, "logs", jobs[0]["id"])
        assert log.exit_code == 0
        models = json.loads(loopwright(folder, "models", "--json").stdout)
        assert models[0]["champion"] is True
        assert Path(
            loopwright(folder, "explore", file, "-o", str(folder / "p.html")).stdout.split()[-1][
                :-1
            ]
        ).exists()
        live = json.loads(loopwright(folder, "endpoints", "--json").stdout)
        assert live[0]["version"] == models[0]["version"]
    finally:
        stopped = loopwright(folder, "stop", "endpoint/houses")
    assert "stopped" in stopped.stdout
    assert loopwright(folder, "predict", file, text="{}").exit_code == 2


def test_init_does_not_overwrite_a_file(folder: Path) -> None:
    path = folder / "mine.yaml"
    path.write_text("mine")

    result = loopwright(
        folder, "init", str(folder / "houses.csv"), "--target", "price", "-o", str(path)
    )

    assert result.exit_code == 2
    assert path.read_text() == "mine"


@pytest.mark.parametrize("text", ["", "not json", "[1, 2]", '{"a": 1}\n{"b"'])
def test_rows_that_are_no_json_objects_are_refused(folder: Path, text: str) -> None:
    path = folder / "any.yaml"
    path.write_text(
        "name: any\nproblem: {target: price}\ndata: {source: {kind: file, path: houses.csv}}\n"
    )

    result = loopwright(folder, "predict", str(path), text=text)

    assert result.exit_code == 2
    assert "rows" in result.stderr.lower()


def test_errors_are_json_on_standard_output_where_json_is_asked_for(folder: Path) -> None:
    result = loopwright(folder, "status", "nothing", "--json")

    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["message"]
    assert result.stderr == ""


def test_the_module_is_the_command_line() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "loopwright", "--help"], capture_output=True, text=True, check=True
    )

    assert "Exit codes" in shown.stdout


def test_a_table_aligns_numbers_to_the_right() -> None:
    shown = table(("name", "n"), [("a", 1), ("bcd", 12_345)])

    assert shown.splitlines() == ["name       n", "────  ──────", "a          1", "bcd   12,345"]
