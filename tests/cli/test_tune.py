from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from loopwright.cli.main import cli


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    x, z = rng.normal(size=700), rng.normal(size=700)
    price = 100 + 10 * x + 5 * np.abs(z) + rng.normal(size=700)
    pl.DataFrame({"x": x, "z": z, "price": price}).write_parquet(tmp_path / "rows.parquet")
    path = tmp_path / "loop.yaml"
    path.write_text(
        "name: rows\n"
        "problem: {target: price, criteria: [{metric: rmse, at_most: 4.6}]}\n"
        "data: {source: {kind: file, path: rows.parquet}}\n"
        "train: {algorithms: [linear-learner], resources: {cpus: 1, memory: 1 GiB}}\n"
    )
    return path


def loopwright(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--home", str(folder / "home"), *arguments])


TUNE = ("--algorithm", "linear-learner", "--space", "alpha=1e-4..10:log", "--parallel", "1")


def test_a_search_tells_every_trial_and_what_to_write_into_the_file(
    tmp_path: Path, loop: Path
) -> None:
    done = loopwright(tmp_path, "tune", str(loop), *TUNE, "--trials", "2")

    assert done.exit_code == 0, done.output
    assert "trial   1" in done.stderr
    assert "trial   2" in done.stderr
    assert "linear-learner: {alpha: " in done.stdout


def test_a_search_that_goes_on_trains_only_what_is_new(tmp_path: Path, loop: Path) -> None:
    first = loopwright(tmp_path, "tune", str(loop), *TUNE, "--trials", "2", "--json")
    again = loopwright(tmp_path, "tune", str(loop), *TUNE, "--trials", "3", "--json")
    jobs = loopwright(tmp_path, "jobs", "--json")

    before, after = json.loads(first.stdout), json.loads(again.stdout)
    assert after["study"] == before["study"]
    assert after["trials"][:2] == before["trials"]
    assert len(after["trials"]) == 3
    assert len(json.loads(jobs.stdout)) == 3


def test_a_name_does_not_mix_studies(tmp_path: Path, loop: Path) -> None:
    loopwright(tmp_path, "tune", str(loop), *TUNE, "--trials", "1", "--name", "mine")
    other = ("--algorithm", "linear-learner", "--space", "alpha=1e-3..1:log", "--parallel", "1")

    done = loopwright(tmp_path, "tune", str(loop), *other, "--trials", "2", "--name", "mine")

    assert done.exit_code == 2
    assert "'mine' searched with a space other than this" in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--algorithm", "linear-lerner"), "linear-learner"),
        (("--space", "alpha"), "--space 'alpha' cannot be read"),
        (("--space", "alpha=a..b"), "cannot be read"),
        (("--algorithm", "linear-learner", "--space", "alfa=0..1"), "alpha"),
        (("--trials", "0"), "tune.trials is below 1"),
        (("--space", "num_leaves=64..8"), "goes from 64 to 8, which is no range"),
        (("--space", "num_leaves=2..inf"), "reaches to inf"),
        (("--space", "num_leaves=nan..9"), "which is no range"),
        (("--space", "learning_rate=0..1:log"), "which has no logarithm"),
        (("--space", "num_leaves=8,many"), "names 'many'; a whole number is expected"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_read(
    tmp_path: Path, loop: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = loopwright(tmp_path, "tune", str(loop), *arguments)

    assert done.exit_code == 2
    assert says in done.output
    assert not (tmp_path / "home").exists()


def test_a_class_with_two_rows_is_no_obstacle(tmp_path: Path, loop: Path) -> None:
    frame = pl.read_parquet(tmp_path / "rows.parquet")
    kind = frame.select(
        pl.when(pl.int_range(pl.len()).is_in([5, 400]))
        .then(pl.lit("rare"))
        .when(pl.col("price") > 104)
        .then(pl.lit("dear"))
        .otherwise(pl.lit("cheap"))
        .alias("price")
    )
    frame.with_columns(kind["price"]).write_parquet(tmp_path / "rows.parquet")
    loop.write_text(
        loop.read_text().replace(
            "{metric: rmse, at_most: 4.6}", "{metric: accuracy, at_least: 0.5}"
        )
    )

    done = loopwright(tmp_path, "tune", str(loop), *TUNE, "--trials", "1", "--json")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["value"] > 0.7


def test_a_round_searches_when_the_file_asks_for_it(tmp_path: Path, loop: Path) -> None:
    loop.write_text(
        loop.read_text()
        + "tune: {trials: 2, parallel: 1, space: {linear-learner: {alpha: [0.001, 5]}}}\n"
    )

    done = loopwright(tmp_path, "run", str(loop), "--json")

    assert done.exit_code == 0, done.output
    steps = {step["stage"]: step for step in json.loads(done.stdout)["status"]["steps"]}
    assert "2 trials of linear-learner" in steps["tune"]["summary"]
    assert "train.2" in steps
    assert "choose.2" in steps


def test_auto_stands_among_the_algorithms(tmp_path: Path, loop: Path) -> None:
    text = loop.read_text().replace("[linear-learner]", "[auto]")
    loop.write_text(
        text.replace("train: {", "train: {auto: {algorithms: [linear-learner], trials: 1}, ")
    )

    done = loopwright(tmp_path, "run", str(loop), "--json")

    assert done.exit_code == 0, done.output
    steps = {step["stage"]: step for step in json.loads(done.stdout)["status"]["steps"]}
    assert "1 models: auto" in steps["train"]["summary"]


def test_a_search_that_was_too_short_says_what_its_model_is(tmp_path: Path, loop: Path) -> None:
    text = loop.read_text().replace("[linear-learner]", "[auto]")
    loop.write_text(
        text.replace("train: {", "train: {time_limit: 0.5 seconds, budget: {jobs: 1}, ")
    )

    done = loopwright(tmp_path, "run", str(loop))

    assert done.exit_code == 3, done.output
    assert "the model is only a constant, the same answer for every row" in done.output
    assert "give more time" in done.output
