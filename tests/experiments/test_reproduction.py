"""Old results are done again from their records, and it is told whether the same came out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

import loopwright as lw
from loopwright.cli.main import cli
from loopwright.core.errors import NotFoundError
from loopwright.notebook.reproduction import Reproduced, largest_difference, told

# the library that is imported the quickest
TUNE = ("--algorithm", "lightgbm", "--space", "num_leaves=4..16", "--parallel", "1", "--no-prune")


def loopwright(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--home", str(folder / "home"), *arguments])


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a folder with a study of two trials in its home, and the name of the study."""
    folder = tmp_path_factory.mktemp("tuned")
    rng = np.random.default_rng(3)
    x, z = rng.normal(size=600), rng.normal(size=600)
    price = 100 + 10 * x + 5 * np.abs(z) + rng.normal(size=600)
    pl.DataFrame({"x": x, "z": z, "price": price}).write_parquet(folder / "rows.parquet")
    (folder / "loop.yaml").write_text(
        "name: rows\n"
        "problem: {target: price, criteria: [{metric: rmse, at_most: 4}]}\n"
        "data: {source: {kind: file, path: rows.parquet}}\n"
        "train: {resources: {cpus: 1, memory: 1 GiB}}\n"
    )
    done = loopwright(folder, "tune", str(folder / "loop.yaml"), *TUNE, "--trials", "2", "--json")
    assert done.exit_code == 0, done.output
    return folder, f"study/{json.loads(done.stdout)['study']}"


def test_the_best_of_a_study_is_opened_and_done_again_bit_for_bit(tuned: tuple[Path, str]) -> None:
    folder, study = tuned

    again = loopwright(folder, "experiments", "reproduce", study, "--best", "--json")
    model = lw.open_model(study, home=folder / "home")

    assert again.exit_code == 0, again.output
    (found,) = json.loads(again.stdout)
    assert found["is_same"]
    assert found["largest_difference"] == 0.0
    assert found["before"] == found["now"]
    best = lw.compare(study, measure=False, home=folder / "home").best
    assert found["job"] == best.job
    row = {"x": 1.0, "z": 0.0}
    assert model.predict([row]) == lw.open_model(best.job, home=folder / "home").predict([row])


def test_what_comes_out_otherwise_is_told_with_how_much(tuned: tuple[Path, str]) -> None:
    folder, study = tuned
    job = lw.compare(study, measure=False, home=folder / "home").value.entries[-1].job
    answers = folder / "home" / "jobs" / job / "out" / "validation.parquet"
    frame = pl.read_parquet(answers)
    frame.with_columns(pl.col("prediction") + 0.5).write_parquet(answers)

    done = loopwright(folder, "experiments", "reproduce", job)

    assert done.exit_code == 3
    assert "not the same: validation.parquet" in done.stdout
    assert "answers differ by at most 0.5" in done.stdout


def test_what_cannot_be_done_again_says_why(tuned: tuple[Path, str]) -> None:
    folder, study = tuned
    job = lw.compare(study, measure=False, home=folder / "home").value.entries[0].job
    train = folder / "home" / "jobs" / job / "train.parquet"
    kept = train.read_bytes()
    train.unlink()
    try:
        again = lw.reproduce(job, home=folder / "home")
    finally:
        train.write_bytes(kept)

    assert not again.is_same
    assert "cannot be done again" in repr(again)
    assert "train.parquet" in again.results[0].reason


def test_a_name_that_stands_for_nothing_is_refused(tuned: tuple[Path, str]) -> None:
    folder, _ = tuned

    with pytest.raises(NotFoundError, match="study/none"):
        lw.reproduce("study/none", home=folder / "home")


def test_answers_of_other_rows_are_not_compared(tmp_path: Path) -> None:
    for name, n_rows in (("a", 3), ("b", 3), ("c", 2)):
        (tmp_path / name).mkdir()
        shares = [[0.2, 0.8]] * n_rows if name != "b" else [[0.3, 0.7]] * n_rows
        pl.DataFrame({"actual": ["x"] * n_rows, "probabilities": shares}).write_parquet(
            tmp_path / name / "validation.parquet"
        )

    assert largest_difference(tmp_path / "a", tmp_path / "b") == pytest.approx(0.1)
    assert largest_difference(tmp_path / "a", tmp_path / "c") is None
    assert largest_difference(tmp_path / "a", tmp_path / "none") is None


def test_a_line_says_what_has_changed_since() -> None:
    each = Reproduced(
        job="1", name="a", again="2", reason="x differs", changed=("python: 3.11 → 3.12",)
    )

    assert told(each) == "a (1): not the same: x differs (changed since: python: 3.11 → 3.12)"
