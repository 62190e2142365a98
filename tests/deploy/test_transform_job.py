"""A transform whose parts are answered by jobs writes what one in a single process writes."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

import loopwright as lw
from loopwright.cli import main as command_line  # noqa: F401 the commands join the group
from loopwright.cli.main import cli
from loopwright.compute.inline import InlineCompute
from loopwright.core.clock import SystemClock
from loopwright.core.digest import digest_file
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.data import FileSource, open_source
from loopwright.deploy.transform import TransformResult, transform
from loopwright.deploy.transform_job import written_by_jobs
from loopwright.deploy.transform_part import TransformPlan
from loopwright.prepare import Signature, fit_recipe, suggest
from loopwright.train import (
    Outcome,
    TrainingData,
    TrainingPart,
    fit_algorithm,
    get_algorithm,
    open_bundle,
    pack_bundle,
)
from loopwright.train.predictor_file import pack_predictor

N_ROWS = 1_000


def cars(n_rows: int) -> pl.DataFrame:
    at = pl.int_range(n_rows, eager=True)
    return pl.DataFrame(
        {
            "id": [f"c{number}" for number in range(n_rows)],
            "power": (at * 7919 % 211).cast(pl.Float64),
            "fuel": pl.Series(["petrol", "diesel", None] * n_rows)[:n_rows].cast(pl.Categorical),
            "seen": [date(2025, 1, 1 + number % 28) for number in range(n_rows)],
        }
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = cars(300).drop("id")
    y = (rows["power"] * 3 + 5).to_numpy()
    table = rows.with_columns(price=y)
    fitted, X = fit_recipe(suggest(table, "price", "regression", family="linear"), rows, y, seed=0)
    part = TrainingPart(X=X, y=y)
    model = fit_algorithm(
        get_algorithm("linear-learner"),
        TrainingData(train=part, validation=part),
        task="regression",
        hyperparameters={},
        seed=0,
        threads=1,
    )
    files = {
        **pack_predictor(model.predictor),
        "recipe.json": fitted.to_json().encode(),
        "signature.json": Signature.from_frame(rows).to_json().encode(),
    }
    outcome = Outcome(task="regression")
    path = tmp_path_factory.mktemp("model") / "model.tar.gz"
    path.write_bytes(pack_bundle(files, name="cars", algorithm="linear-learner", outcome=outcome))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Any:
    rows = cars(N_ROWS).with_columns(power=pl.col("power").cast(pl.String))
    rows[501, "power"] = "fast"
    rows.write_parquet(tmp_path / "rows.parquet")
    return open_source(FileSource(path="rows.parquet"), tmp_path)


@pytest.fixture
def compute(tmp_path: Path) -> InlineCompute:
    return InlineCompute(tmp_path / "jobs", SystemClock())


def run(bundle: Path, source: Any, output: Path, compute: Any = None, **more: Any) -> Any:
    plan = TransformPlan(id_column="id", keep=("seen", "fuel"), part_rows=200)
    write = compute and written_by_jobs(compute, bundle, jobs=2, parts_a_job=3)
    return transform(
        open_bundle(bundle),
        source,
        output,
        plan=plan,
        today=date(2026, 1, 31),
        write=write,
        **more,
    )


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file that says what was answered."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): digest_file(path) for path in files}


def test_jobs_write_what_one_process_writes(
    bundle: Path, source: Any, compute: InlineCompute, tmp_path: Path
) -> None:
    here = run(bundle, source, tmp_path / "here")
    told: list[tuple[int, ...]] = []

    there: TransformResult = run(
        bundle, source, tmp_path / "there", compute, on_part=lambda *each: told.append(each)
    )

    assert (there.n_rows, there.n_rejected, there.n_parts) == (N_ROWS, 1, 5)
    assert (here.n_rows, here.n_rejected, here.n_parts) == (N_ROWS, 1, 5)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert told == [(number, 200, int(number == 2)) for number in range(5)]
    jobs = compute.list_(kind="transform")
    assert [job.name for job in jobs] == ["parts 0 to 2", "parts 3 to 4"]
    # rows and answers lie in the folder of the transform alone
    assert not any(list(job.folder.glob("rows-*")) for job in jobs)


def test_what_is_done_is_not_given_to_jobs_again(
    bundle: Path, source: Any, compute: InlineCompute, tmp_path: Path
) -> None:
    def stop(number: int, *_counts: int) -> None:
        if number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(bundle, source, tmp_path / "out", compute, on_part=stop)

    again = run(bundle, source, tmp_path / "out", compute)

    assert again.n_kept_parts == 2
    # the second job had ended meanwhile: what it had done was taken
    assert [job.name for job in compute.list_(kind="transform")] == [
        "parts 0 to 2",
        "parts 3 to 4",
        "parts 2 to 2",
    ]
    run(bundle, source, tmp_path / "here")
    assert contents(tmp_path / "out") == contents(tmp_path / "here")
    assert not list((tmp_path / "out").glob(".rows-*"))


def test_a_job_that_fails_is_named_and_what_it_said(
    bundle: Path, source: Any, compute: InlineCompute, tmp_path: Path
) -> None:
    write = written_by_jobs(compute, bundle, jobs=1)
    bad = tmp_path / "model.tar.gz"
    bad.write_bytes(bundle.read_bytes()[:-100])

    with pytest.raises(BackendError, match="cannot be trusted") as failed:
        transform(
            open_bundle(bundle),
            source,
            tmp_path / "out",
            today=date(2026, 1, 31),
            write=written_by_jobs(compute, bad, jobs=1),
        )

    assert failed.value.facts["job"] in str(failed.value)
    # nothing was spoilt: the same transform goes on with the right file
    done = transform(
        open_bundle(bundle), source, tmp_path / "out", today=date(2026, 1, 31), write=write
    )
    assert done.n_rows == N_ROWS


def test_a_number_of_jobs_that_is_none_is_refused(bundle: Path, compute: InlineCompute) -> None:
    with pytest.raises(InvalidInputError, match="0 jobs"):
        written_by_jobs(compute, bundle, jobs=0)


def test_an_opened_model_cannot_be_handed_to_jobs(bundle: Path, tmp_path: Path) -> None:
    cars(3).write_parquet(tmp_path / "rows.parquet")

    with pytest.raises(InvalidInputError, match="handed to jobs"):
        lw.transform(
            open_bundle(bundle),
            tmp_path / "rows.parquet",
            tmp_path / "out",
            jobs=1,
            home=tmp_path / "home",
        )


def test_the_command_has_jobs_of_this_machine_do_it(bundle: Path, tmp_path: Path) -> None:
    cars(40).write_parquet(tmp_path / "rows.parquet")
    lw.transform(bundle, tmp_path / "rows.parquet", tmp_path / "here", part_rows=30)

    said = CliRunner().invoke(
        cli,
        [
            *("--home", str(tmp_path / "home"), "transform", str(bundle), "--json"),
            *("--input", str(tmp_path / "rows.parquet"), "--output", str(tmp_path / "out")),
            *("--part-rows", "30", "--jobs", "2", "--memory", "1 GiB"),
        ],
    )

    assert said.exit_code == 0, said.output
    assert json.loads(said.output)["n_parts"] == 2
    assert contents(tmp_path / "out") == contents(tmp_path / "here")
